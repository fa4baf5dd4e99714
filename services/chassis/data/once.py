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
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import cache
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.access import find_rpc, rule_of
from services.chassis.calls.answer import note_replayed
from services.chassis.calls.auth import Principal, acting_as, current_principal
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.calls.status import from_status, to_status
from services.chassis.calls.wire import copy_without
from services.chassis.data.database import Database
from services.chassis.data.database_errors import LOCK_NOT_AVAILABLE, is_contention, names_row_of, sqlstate
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_rows
from services.chassis.data.seals import seals_of
from services.chassis.data.sql import Row
from services.chassis.data.tables import RequestStatus, handled_requests
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import add_versions
from services.chassis.values.errors import DomainError, Kind, Unavailable
from services.chassis.values.invariant import require_present
from services.chassis.values.refusals import IdempotencyKeyReused

R = TypeVar("R", bound=Message)

_IN_FLIGHT_WAIT_MS = 1_000
_ATTEMPTS_MAX = 5
_c = handled_requests.c
_ANSWER = (
    sa.update(handled_requests)
    .where(
        _c.org_id == sa.bindparam("of_org_id"),
        _c.principal == sa.bindparam("of_principal"),
        _c.idempotency_key == sa.bindparam("key"),
    )
    .values(
        status=RequestStatus.ANSWERED,
        answer=sa.bindparam("kept"),
        answer_is_error=sa.bindparam("is_error"),
        seal=sa.bindparam("made"),
    )
)
_KEYS = sa.bindparam("keys", type_=pg.ARRAY(sa.Text))
_FIND = Read(
    sa.select(_c.idempotency_key, _c.answer, _c.answer_is_error, _c.fingerprint, _c.seal).where(
        is_mine(handled_requests), _c.principal == sa.bindparam("of_principal"), _c.idempotency_key == sa.any_(_KEYS)
    )
)
_CLAIMED = sa.func.unnest(_KEYS).table_valued("key").render_derived()
_CLAIM = (
    pg.insert(handled_requests)
    .from_select(
        ["org_id", "principal", "idempotency_key", "fingerprint", "status"],
        sa.select(
            *(sa.bindparam(name, type_=sa.Text) for name in ("of_org_id", "of_principal")),
            _CLAIMED.c.key,
            sa.bindparam("of_body", type_=sa.LargeBinary),
            sa.literal_column(f"'{RequestStatus.RUNNING}'"),
        ),
    )
    .on_conflict_do_nothing()
    .returning(_c.idempotency_key)
)
_DECISIONS = frozenset({Kind.FAILED_PRECONDITION, Kind.ALREADY_EXISTS, Kind.PERMISSION_DENIED})


class RequestInFlight(DomainError):
    """The first request with this key has not been answered yet."""

    kind = Kind.ABORTED
    reason = "REQUEST_IN_FLIGHT"
    retry_after_seconds = 1


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
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _attempt(database, request, response_type, run)
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
                await _keep_answer(tx, request, response, current_principal())
                return response
    except DomainError as refusal:
        if not is_decision(refusal):
            raise
        answer = await _store_refusal(database, request, fingerprint, refusal)
        if answer is None:
            raise
    note_replayed()
    return _read_answer(answer, response_type)


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
    return _read_answer(row, response_type)


async def decided_meanwhile(database: Database, request: Message, response_type: type[R]) -> R | None:
    """The answer that is kept for this request, still the first time it is asked: its own transaction has committed,
    and a job may have settled since what it is answered. None where no answer is kept.

    Raises:
        The business refusal that is the answer.
    """
    row = await _look_up(database, request)
    return None if row is None else _read_answer(row, response_type)


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
            await _keep_answer(tx, request, refusal, current_principal())
    return answer


async def _claim(tx: Tx, request: Message, fingerprint: bytes) -> Row | None:
    """Takes the keys for this transaction (None), or finds the answer they have."""
    owner, keys = _owner(current_principal()), keys_of(request)
    claim = {**_name_of(owner), "keys": sorted(keys), "of_body": fingerprint}
    try:
        # Waits for a concurrent duplicate's transaction to end, as long as lock_timeout allows.
        claimed = set(await tx.scalars(_CLAIM, claim))
    except asyncpg.PostgresError as error:
        if sqlstate(error) != LOCK_NOT_AVAILABLE:
            raise
        if not names_row_of(error, handled_requests.name):
            raise Unavailable("The requests handled before are locked.") from error
        raise _build_in_flight(keys[0]) from None
    if len(claimed) == len(keys):
        return None
    row = await _find(tx, request, fingerprint, claimed)
    if row is None:  # the first one was rolled back just now
        raise _build_in_flight(keys[0])
    return row


async def _find(source: Source, request: Message, fingerprint: bytes, claimed: Collection[str] = ()) -> Any | None:
    """
    Args:
        claimed: The keys that this transaction has just taken: they have no answer yet.

    Raises:
        NotSealed: a row is not what this service wrote. Whoever takes a key and commits has answered it, so that goes
            for one without an answer, too.
    """
    owner, keys = _owner(current_principal()), keys_of(request)
    found = await fetch_rows(source, _FIND, of_principal=owner["principal"], keys=list(keys))
    rows: dict[str, Any] = {row.idempotency_key: row for row in found}
    for key in keys:
        row = rows.get(key)
        if row is None or key in claimed:
            continue
        told = (*owner.values(), key, row.answer, row.answer_is_error)
        seals_of(source).check(row.seal, handled_requests.name, key, *told)
        if row.fingerprint != fingerprint:
            raise _build_reused(request, key)
    return None if keys[0] in claimed else rows.get(keys[0])


def _build_in_flight(idempotency_key: str) -> RequestInFlight:
    return RequestInFlight("The first request is still running.", idempotency_key=idempotency_key)


def _build_reused(request: Message, idempotency_key: str) -> IdempotencyKeyReused:
    path = "idempotency_key"
    if path not in request.DESCRIPTOR.fields_by_name:
        path = f"items[{keys_of(request).index(idempotency_key)}].{path}"
    return IdempotencyKeyReused(
        "The idempotency_key was used with another request.",
        fields={path: "was used with another request"},
        idempotency_key=idempotency_key,
    )


def _read_answer(row: Row, response_type: type[R]) -> R:
    """Raises the refusal, where that is the answer."""
    if not row.answer_is_error:
        return response_type.FromString(row.answer)
    refusal = from_status(status_pb2.Status.FromString(row.answer))
    refusal = require_present(refusal, "a stored refusal is a DomainError")
    raise refusal


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
    with acting_as(sender or current_principal()) as principal:
        answer = build()
    if not isinstance(answer, DomainError):
        await add_versions(tx, answer)
    await _keep_answer(tx, request, answer, principal)
    return answer


async def _keep_answer(tx: Tx, request: Message, answer: Message | DomainError, principal: Principal) -> None:
    owner, keys, is_error = _owner(principal), keys_of(request), isinstance(answer, DomainError)
    if not keys:
        return
    message = to_status(answer, "") if isinstance(answer, DomainError) else answer
    stored = message.SerializeToString(deterministic=True)
    rows = []
    for key, kept in zip(keys, (stored, *(b"" for _ in keys[1:])), strict=True):
        seal = seals_of(tx).make(handled_requests.name, *owner.values(), key, kept, is_error)
        rows.append({"key": key, "kept": kept, "is_error": is_error, "made": seal})
    await tx.execute(_ANSWER, [_name_of(owner) | row for row in rows])


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


def _name_of(owner: Mapping[str, str]) -> dict[str, str]:
    """Whose, as the statements name it."""
    return {f"of_{name}": value for name, value in owner.items()}


def _owner(principal: Principal) -> dict[str, str]:
    return {"org_id": principal.org_id, "principal": principal.key_owner}
