"""Applied once: a request's effect and its answer are one transaction, and so are an event's effect and its inbox row.

The key of a request is (organization, caller, RPC, idempotency_key). The first decision about a key is kept with its
effect, a refusal as well as a success: a retry with the same body gets it again, and is told that it is a replay; with
another body it is refused. What reached no decision leaves the key free: a malformed request, a resource that is not
there, a service that is away, time that ran out (reliability rules c11, c12).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from google.protobuf.message import Message
from google.rpc import status_pb2
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.answer import note_replayed
from services.chassis.calls.auth import Principal, current_principal
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.calls.status import from_status, to_status
from services.chassis.data.database import Database, is_contention, sqlstate
from services.chassis.data.seals import seals_of
from services.chassis.data.tables import handled_events, handled_requests
from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.invariant import invariant

R = TypeVar("R", bound=Message)

_IN_FLIGHT_WAIT_MS = 1_000
_ATTEMPTS_MAX = 5
_LOCK_NOT_AVAILABLE = "55P03"
_DECISIONS = frozenset({Kind.FAILED_PRECONDITION, Kind.ALREADY_EXISTS, Kind.PERMISSION_DENIED})


class IdempotencyKeyReused(DomainError):
    """The key belongs to another request."""

    kind = Kind.FAILED_PRECONDITION
    reason = "IDEMPOTENCY_KEY_REUSED"


class RequestInFlight(DomainError):
    """The first request with this key has not been answered yet."""

    kind = Kind.ABORTED
    reason = "REQUEST_IN_FLIGHT"
    retry_after_seconds = 1


async def once(
    database: Database,
    request: Message,
    response_type: type[R],
    run: Callable[[AsyncConnection], Awaitable[R]],
) -> R:
    """Opens the transaction and runs `run` in it, unless this request was answered before: then gives that answer.

    `run` may be called again when the transaction loses against another one (deadlock, lock timeout), so it does
    nothing outside its transaction. With an empty `idempotency_key`, or none, nothing is remembered. With
    `validate_only` it runs, and everything it wrote is undone: the answer is what it would have been.

    Raises:
        IdempotencyKeyReused: the idempotency_key was used with another body; nothing was done.
        RequestInFlight: the first request with this key still runs after a second.
    """
    if getattr(request, "validate_only", False):
        return await _rehearse(database, run)
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _attempt(database, request, response_type, run)
        except (DBAPIError, asyncpg.PostgresError) as error:
            # Full jitter: those who collided do not meet again.
            pause = random.uniform(0, 0.02 * 2**attempt)  # noqa: S311  # no secret
            remaining = remaining_seconds()
            if not is_contention(error) or attempt == _ATTEMPTS_MAX or (remaining is not None and remaining < pause):
                raise
        await asyncio.sleep(pause)


async def _rehearse(database: Database, run: Callable[[AsyncConnection], Awaitable[R]]) -> R:
    answer: list[R] = []
    try:
        async with database.begin() as tx:
            answer.append(await run(tx))
            raise _Undo
    except _Undo:
        return answer[0]


class _Undo(Exception):
    """Rolls a transaction back that had nothing wrong with it."""


async def _attempt(
    database: Database, request: Message, response_type: type[R], run: Callable[[AsyncConnection], Awaitable[R]]
) -> R:
    idempotency_key = getattr(request, "idempotency_key", "")
    if not idempotency_key:
        async with database.begin() as tx:
            return await run(tx)
    fingerprint = fingerprint_of(request)
    try:
        async with database.begin(lock_timeout_ms=_IN_FLIGHT_WAIT_MS) as tx:
            answer = await _claim(tx, request, fingerprint)
            if answer is None:
                response = await run(tx)
                await replace_answer(tx, request, response)
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


async def _look_up(database: Database, request: Message) -> sa.Row[Any, Any, Any, Any, Any] | None:
    if not getattr(request, "idempotency_key", "") or getattr(request, "validate_only", False):
        return None
    async with database.begin() as tx:
        return await _find(tx, request, fingerprint_of(request))


async def _store_refusal(
    database: Database, request: Message, fingerprint: bytes, refusal: DomainError
) -> sa.Row[Any, Any, Any, Any, Any] | None:
    """Keeps a business refusal, in a transaction of its own: the first one was rolled back with all its effects.

    Between the two the same request may have come again and been answered: then that is the answer, returned here.
    """
    async with database.begin(lock_timeout_ms=_IN_FLIGHT_WAIT_MS) as tx:
        answer = await _claim(tx, request, fingerprint)
        if answer is None:
            await replace_answer(tx, request, refusal)
    return answer


async def _claim(tx: AsyncConnection, request: Message, fingerprint: bytes) -> sa.Row[Any, Any, Any, Any, Any] | None:
    """Takes the key for this transaction (None), or finds the answer it has."""
    key = _key(request, current_principal())
    claim = pg.insert(handled_requests).values(**key, fingerprint=fingerprint, status="running")
    try:
        # Waits for a concurrent duplicate's transaction to end, as long as lock_timeout allows.
        if (await tx.execute(claim.on_conflict_do_nothing())).rowcount == 1:
            return None
    except DBAPIError as error:
        if sqlstate(error) == _LOCK_NOT_AVAILABLE:
            raise RequestInFlight(
                "The first request is still running.", idempotency_key=key["idempotency_key"]
            ) from None
        raise
    row = await _find(tx, request, fingerprint)
    if row is None:  # the first one was rolled back just now
        raise RequestInFlight("The first request is still running.", idempotency_key=key["idempotency_key"])
    return row


async def _find(tx: AsyncConnection, request: Message, fingerprint: bytes) -> sa.Row[Any, Any, Any, Any, Any] | None:
    key, table = _key(request, current_principal()), handled_requests.c
    found = sa.select(table.answer, table.answer_is_error, table.fingerprint, table.status, table.seal)
    found = found.filter_by(**key)
    row = (await tx.execute(found)).one_or_none()
    if row is None:
        return None
    if row.status != "answered":
        raise RequestInFlight("The first request is still running.", idempotency_key=key["idempotency_key"])
    told = (*key.values(), row.answer, row.answer_is_error)
    seals_of(tx).check(row.seal, handled_requests.name, key["idempotency_key"], *told)
    if row.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            "The idempotency_key was used with another request.", idempotency_key=key["idempotency_key"]
        )
    return row


def _read_answer(row: sa.Row[Any, Any, Any, Any, Any], response_type: type[R]) -> R:
    """Raises the refusal, where that is the answer."""
    if not row.answer_is_error:
        return response_type.FromString(row.answer)
    refusal = from_status(status_pb2.Status.FromString(row.answer))
    invariant(refusal is not None, "a stored refusal is a DomainError")
    assert refusal is not None
    raise refusal


async def replace_answer(
    tx: AsyncConnection, request: Message, answer: Message | DomainError, *, principal: Principal | None = None
) -> None:
    """Settles what a replay of `request` answers from now on, where the first answer was not the last word.

    Args:
        principal: Who sent the request, where a job finishes it; None is the current caller.
    """
    if not getattr(request, "idempotency_key", ""):
        return
    key, is_error = _key(request, principal or current_principal()), isinstance(answer, DomainError)
    message = to_status(answer, "") if isinstance(answer, DomainError) else answer
    stored = message.SerializeToString(deterministic=True)
    seal = seals_of(tx).make(handled_requests.name, *key.values(), stored, is_error)
    answered = {"status": "answered", "answer": stored, "answer_is_error": is_error, "seal": seal}
    await tx.execute(sa.update(handled_requests).filter_by(**key).values(answered))


def fingerprint_of(request: Message) -> bytes:
    """SHA-256 of what is asked, without the key it is asked under."""
    body = type(request)()
    body.CopyFrom(request)
    body.ClearField("idempotency_key")
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + body.SerializeToString(deterministic=True)).digest()


def _key(request: Message, principal: Principal) -> dict[str, str]:
    return {
        "org_id": principal.org_id,
        "principal": principal.subject,
        "rpc": request.DESCRIPTOR.full_name,
        "idempotency_key": getattr(request, "idempotency_key"),  # noqa: B009  # Message has no such attribute for the type checker
    }


async def first_delivery(tx: AsyncConnection, consumer: str, event_id: uuid.UUID | str) -> bool:
    """True if this consumer has not handled the event yet; it has when this transaction commits."""
    row = pg.insert(handled_events).values(
        org_id=current_principal().org_id, consumer=consumer, event_id=uuid.UUID(str(event_id))
    )
    return (await tx.execute(row.on_conflict_do_nothing())).rowcount == 1
