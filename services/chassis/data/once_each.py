"""The items of a batch, each decided once under its own key: as a single request with that key would be, and with it.

An item is a single request's message, so its key, and what counts as the same body, are that request's: whichever of
the two comes second gets the first answer. All of a batch is one transaction, in which one refused item undoes
nothing of the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from services.chassis.calls.auth import current_principal
from services.chassis.calls.batch import Outcome
from services.chassis.data.database import Database
from services.chassis.data.once import fingerprint_of, is_decision, keys_of, retry_contention
from services.chassis.data.request_keys import (
    build_in_flight,
    build_reused,
    claim_keys,
    keep_answers,
    list_answered,
    read_answer,
)
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import add_versions
from services.chassis.values.errors import DomainError

Item = TypeVar("Item", bound=Message)
R = TypeVar("R", bound=Message)

_PATH = "idempotency_key"
# A batch takes longer than a single request, and whoever waits for one would only come again.
_IN_FLIGHT_WAIT_MS = 3_000
_ATTEMPTS_MAX = 5


class Deed(NamedTuple, Generic[Item, R]):
    """What is done with the items that nobody has answered yet, in their order, and in the transaction alone.

    Args:
        judge: Reads what there is, and says why each is refused; None where nothing speaks against it so far. What is
            refused without a decision (once.py) takes no key.
        do: Does the others under their keys and locks, each or its refusal.
    """

    judge: Callable[[Tx, Sequence[Item]], Awaitable[Sequence[DomainError | None]]]
    do: Callable[[Tx, Sequence[Item]], Awaitable[Sequence[R | DomainError]]]


class _Overtaken(Exception):
    """Between the first look and the lock somebody changed what an item is about: it is to be judged anew."""

    def __init__(self, refusal: DomainError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


async def answered_each(database: Database, items: Sequence[Item], answer_type: type[R]) -> dict[int, Outcome[R]]:
    """What those of the items got that were answered before, by their places."""
    rows = await list_answered(database.reader, [key for item in items for key in keys_of(item)])
    return _read_outcomes(items, range(len(items)), rows, answer_type)


async def once_each(
    database: Database, items: Sequence[Item], answer_type: type[R], deed: Deed[Item, R]
) -> list[Outcome[R]]:
    """Decides on each of the items, in one transaction: what was answered by somebody else meanwhile is given again.

    Raises:
        RequestInFlight: another request with one of the keys still runs.
        DomainError: what an item is about cannot be held still; nothing was done.
    """
    attempts = 0
    while True:
        attempts += 1
        try:
            return await retry_contention(lambda: _attempt(database, items, answer_type, deed))
        except _Overtaken as overtaken:
            if attempts == _ATTEMPTS_MAX:
                raise overtaken.refusal from None


async def rehearse_each(database: Database, items: Sequence[Item], deed: Deed[Item, R]) -> list[Outcome[R]]:
    """What `once_each` would decide if all keys were new. Nothing of it stays."""
    async with database.begin_rehearsal() as tx:
        refusals = await deed.judge(tx, items)
        passing = [place for place, refusal in enumerate(refusals) if refusal is None]
        done = await _do(tx, items, passing, deed)
        return [Outcome(refusal or done[place]) for place, refusal in enumerate(refusals)]
    raise AssertionError("unreachable")


async def _attempt(
    database: Database, items: Sequence[Item], answer_type: type[R], deed: Deed[Item, R]
) -> list[Outcome[R]]:
    async with database.begin(lock_timeout_ms=_IN_FLIGHT_WAIT_MS) as tx:
        refusals = await deed.judge(tx, items)
        decided = [place for place, refusal in enumerate(refusals) if refusal is None or is_decision(refusal)]
        lost = await _claim(tx, items, decided, answer_type)
        mine = [place for place in decided if place not in lost]
        refused = {place: refusal for place, refusal in enumerate(refusals) if refusal is not None}
        done = await _do(tx, items, [place for place in mine if place not in refused], deed)
        answers: dict[int, R | DomainError] = {place: refused[place] for place in mine if place in refused}
        answers |= done
        for place, answer in answers.items():
            if isinstance(answer, DomainError) and not is_decision(answer) and keys_of(items[place]):
                raise _Overtaken(answer)  # its key is taken, and an answer that is no decision cannot be kept
        kept = [(keys_of(items[place]), answer) for place, answer in answers.items()]
        await keep_answers(tx, kept, current_principal())
        return [lost.get(place) or Outcome(done.get(place) or refused[place]) for place in range(len(items))]


async def _claim(tx: Tx, items: Sequence[Item], places: Sequence[int], answer_type: type[R]) -> dict[int, Outcome[R]]:
    """Takes the keys of the items at these places; what those got that somebody else answered first."""
    bodies = {key: fingerprint_of(items[place]) for place in places for key in keys_of(items[place])}
    if not bodies:
        return {}
    taken = bodies.keys() - await claim_keys(tx, bodies)
    rows = await list_answered(tx, sorted(taken))
    for key in taken - rows.keys():  # the first one was rolled back just now
        raise build_in_flight(key)
    return _read_outcomes(items, places, rows, answer_type)


async def _do(tx: Tx, items: Sequence[Item], places: Sequence[int], deed: Deed[Item, R]) -> dict[int, R | DomainError]:
    answers = await deed.do(tx, [items[place] for place in places]) if places else ()
    await add_versions(tx, *(answer for answer in answers if not isinstance(answer, DomainError)))
    return dict(zip(places, answers, strict=True))


def _read_outcomes(
    items: Sequence[Item], places: Sequence[int], rows: Mapping[str, Row], answer_type: type[R]
) -> dict[int, Outcome[R]]:
    outcomes: dict[int, Outcome[R]] = {}
    for place in places:
        for key in keys_of(items[place]):
            if (row := rows.get(key)) is None:
                continue
            if row.fingerprint != fingerprint_of(items[place]):
                outcomes[place] = Outcome(build_reused(key, _PATH))
            else:
                outcomes[place] = Outcome(_read(row, answer_type), replayed=True)
    return outcomes


def _read(row: Row, answer_type: type[R]) -> R | DomainError:
    try:
        return read_answer(row, answer_type)
    except DomainError as refusal:
        return refusal
