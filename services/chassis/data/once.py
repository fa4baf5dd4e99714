"""Applied once: a request's effect and its answer are one transaction.

The key of a request is (organization, caller, idempotency_key), whatever the RPC: one key names one decision. The first
decision about a key is kept with its effect, a refusal as well as a success: a retry with the same body gets it again,
and is told that it is a replay; another body, or another RPC, is refused. What reached no decision leaves the key free:
a malformed request, a resource that is not there, a service that is away, time that ran out (reliability rules c11,
c12).

A batch whose items a second person decides on together is one request, and the keys of all its items are its keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import cache
from typing import Any, TypeVar

import asyncpg
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.chassis.calls.access import find_rpc, rule_of
from services.chassis.calls.answer import note_replayed
from services.chassis.calls.auth import Principal, acting_as, current_principal
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.calls.wire import copy_without
from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_contention
from services.chassis.data.reads import Source
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
from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.refusals import IdempotencyKeyReused

R = TypeVar("R", bound=Message)
T = TypeVar("T")

_IN_FLIGHT_WAIT_MS = 1_000
_ATTEMPTS_MAX = 5
_DECISIONS = frozenset({Kind.FAILED_PRECONDITION, Kind.ALREADY_EXISTS, Kind.PERMISSION_DENIED})


async def once(
    database: Database,
    request: Message,
    response_type: type[R],
    run: Callable[[Tx], Awaitable[R]],
) -> R:
    """Opens the transaction and runs `run` in it, unless this request was answered before: then gives that answer.

    `run` may be called again when the transaction loses against another one (deadlock, lock timeout), so it does
    nothing outside its transaction. With an empty `idempotency_key`, or none, nothing is remembered. With
    `validate_only` it runs, and everything it wrote is undone: the answer is what it would have been.

    Raises:
        IdempotencyKeyReused: the idempotency_key was used with another body; nothing was done.
        RequestInFlight: the first request with this key still runs after a second.
        Unavailable: somebody keeps the table of the keys locked; nothing was done.
    """
    if getattr(request, "validate_only", False):
        async with database.begin_rehearsal() as tx:
            return await _run(tx, run)
    return await retry_contention(lambda: _attempt(database, request, response_type, run))


async def retry_contention(attempt_once: Callable[[], Awaitable[T]]) -> T:
    """Runs a transaction, and again where it lost against another one. It does nothing outside of itself."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return await attempt_once()
        except asyncpg.PostgresError as error:
            # Full jitter: those who collided do not meet again.
            pause = random.uniform(0, 0.02 * 2**attempt)  # noqa: S311  # no secret
            remaining = remaining_seconds()
            if not is_contention(error) or attempt == _ATTEMPTS_MAX or (remaining is not None and remaining < pause):
                raise
        await asyncio.sleep(pause)


async def _run(tx: Tx, run: Callable[[Tx], Awaitable[R]]) -> R:
    response = await run(tx)
    await add_versions(tx, response)
    return response


async def _attempt(
    database: Database, request: Message, response_type: type[R], run: Callable[[Tx], Awaitable[R]]
) -> R:
    if not keys_of(request):
        async with database.begin() as tx:
            return await _run(tx, run)
    fingerprint = fingerprint_of(request)
    try:
        async with database.begin(lock_timeout_ms=_IN_FLIGHT_WAIT_MS) as tx:
            answer = await _claim(tx, request, fingerprint)
            if answer is None:
                response = await _run(tx, run)
                await keep_answers(tx, [(keys_of(request), response)], current_principal())
                return response
    except DomainError as refusal:
        if not is_decision(refusal):
            raise
        answer = await _store_refusal(database, request, fingerprint, refusal)
        if answer is None:
            raise
    note_replayed()
    return read_answer(answer, response_type)


def is_decision(refusal: DomainError) -> bool:
    """Whether the refusal is an answer about the request that a retry gets again."""
    return refusal.kind in _DECISIONS and not isinstance(refusal, IdempotencyKeyReused)


async def answered_before(database: Database, request: Message, response_type: type[R]) -> R | None:
    """The answer this request got before, given again; None if it is new. For what asks peers before it opens its
    transaction: a replay must not depend on what a peer says by now.

    Raises:
        IdempotencyKeyReused, RequestInFlight, or the business refusal that was the answer.
    """
    row = await _look_up(database, request)
    if row is None:
        return None
    note_replayed()
    return read_answer(row, response_type)


async def decided_meanwhile(database: Database, request: Message, response_type: type[R]) -> R | None:
    """The answer that is kept for this request, still the first time it is asked: its own transaction has committed,
    and a job may have settled since what it is answered. None where no answer is kept.

    Raises:
        The business refusal that is the answer.
    """
    row = await _look_up(database, request)
    return None if row is None else read_answer(row, response_type)


async def was_decided(database: Database, request: Message) -> bool:
    """Whether an answer is kept for this request, whatever it is."""
    return await _look_up(database, request) is not None


async def _look_up(database: Database, request: Message) -> Row | None:
    if not keys_of(request) or getattr(request, "validate_only", False):
        return None
    return await _find(database.reader, request, fingerprint_of(request))


async def _store_refusal(database: Database, request: Message, fingerprint: bytes, refusal: DomainError) -> Row | None:
    """Keeps a business refusal, in a transaction of its own: the first one was rolled back with all its effects.

    Between the two the same request may have come again and been answered: then that is the answer, returned here.
    """
    async with database.begin(lock_timeout_ms=_IN_FLIGHT_WAIT_MS) as tx:
        answer = await _claim(tx, request, fingerprint)
        if answer is None:
            await keep_answers(tx, [(keys_of(request), refusal)], current_principal())
    return answer


async def _claim(tx: Tx, request: Message, fingerprint: bytes) -> Row | None:
    """Takes the keys for this transaction (None), or finds the answer they have."""
    keys = keys_of(request)
    claimed = await claim_keys(tx, dict.fromkeys(keys, fingerprint))
    if len(claimed) == len(keys):
        return None
    row = await _find(tx, request, fingerprint, claimed)
    if row is None:  # the first one was rolled back just now
        raise build_in_flight(keys[0])
    return row


async def _find(source: Source, request: Message, fingerprint: bytes, claimed: Collection[str] = ()) -> Any | None:
    """
    Args:
        claimed: The keys that this transaction has just taken: they have no answer yet.

    Raises: NotSealed, IdempotencyKeyReused.
    """
    keys = keys_of(request)
    rows = await list_answered(source, [key for key in keys if key not in claimed])
    for key, row in rows.items():
        if row.fingerprint != fingerprint:
            raise _build_reused(request, key)
    return rows.get(keys[0])


def _build_reused(request: Message, idempotency_key: str) -> IdempotencyKeyReused:
    path = "idempotency_key"
    if path not in request.DESCRIPTOR.fields_by_name:
        path = f"items[{keys_of(request).index(idempotency_key)}].{path}"
    return build_reused(idempotency_key, path)


async def replace_answer(
    tx: Tx, request: Message, build: Callable[[], R | DomainError], *, sender: Principal | None = None
) -> R | DomainError:
    """Settles what a replay of `request` answers from now on, where the first answer was not the last word.

    Args:
        build: Makes the answer as the current principal gets it, who is the sender then: a kept answer says what its
            sender may do, whoever finishes the request.
        sender: Who sent the request, where a job finishes it; None is the current caller.

    Returns:
        The answer.
    """
    return (await replace_answers(tx, [(request, build)], sender=sender))[0]


async def replace_answers(
    tx: Tx, requests: Sequence[tuple[Message, Callable[[], R | DomainError]]], *, sender: Principal | None = None
) -> list[R | DomainError]:
    """As `replace_answer` of each, of one sender's requests."""
    with acting_as(sender or current_principal()) as principal:
        answers = [build() for _, build in requests]
    await add_versions(tx, *(answer for answer in answers if not isinstance(answer, DomainError)))
    keys = (keys_of(request) for request, _ in requests)
    await keep_answers(tx, zip(keys, answers, strict=True), principal)
    return answers


def fingerprint_of(request: Message) -> bytes:
    """SHA-256 of what is asked, without the key it is asked under; a batch's items have theirs in it."""
    has_key = "idempotency_key" in request.DESCRIPTOR.fields_by_name
    body = copy_without(request, "idempotency_key") if has_key else request
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + body.SerializeToString(deterministic=True)).digest()


def keys_of(request: Message) -> tuple[str, ...]:
    """The keys of a request: its own, if it has one; or those of its items, where they are decided on together."""
    field = _find_keys(request.DESCRIPTOR)
    if field == "items":
        return tuple(item.idempotency_key for item in getattr(request, field))
    key = getattr(request, field) if field else ""
    return (key,) if key else ()


@cache
def _find_keys(request: Descriptor) -> str | None:
    """The field that has the keys of such a request."""
    fields = request.fields_by_name
    if "idempotency_key" in fields:
        return "idempotency_key"
    items = fields["items"].message_type if "items" in fields else None
    has_keys = items is not None and "idempotency_key" in items.fields_by_name
    return "items" if has_keys and rule_of(find_rpc(GetMessageClass(request))).two_persons else None
