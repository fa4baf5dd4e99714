"""The keys of requests as rows: taken by a transaction, answered in it, found again by whoever repeats the request.

once.py says what a key means; here is how it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import asyncpg
import sqlalchemy as sa
from google.protobuf.message import Message
from google.rpc import status_pb2
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.calls.status import from_status, to_status
from services.chassis.data.database_errors import LOCK_NOT_AVAILABLE, names_row_of, sqlstate
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_rows
from services.chassis.data.seals import seals_of
from services.chassis.data.sql import Row
from services.chassis.data.tables import RequestStatus, handled_requests
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError, Kind, Unavailable
from services.chassis.values.invariant import require_present
from services.chassis.values.refusals import IdempotencyKeyReused

R = TypeVar("R", bound=Message)

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
_BODIES = sa.bindparam("bodies", type_=pg.ARRAY(sa.LargeBinary))
_CLAIMED = sa.func.unnest(_KEYS, _BODIES).table_valued("key", "body").render_derived()
_CLAIM = (
    pg.insert(handled_requests)
    .from_select(
        ["org_id", "principal", "idempotency_key", "fingerprint", "status"],
        sa.select(
            *(sa.bindparam(name, type_=sa.Text) for name in ("of_org_id", "of_principal")),
            _CLAIMED.c.key,
            _CLAIMED.c.body,
            sa.literal_column(f"'{RequestStatus.RUNNING}'"),
        ),
    )
    .on_conflict_do_nothing()
    .returning(_c.idempotency_key)
)


class RequestInFlight(DomainError):
    """The first request with this key has not been answered yet."""

    kind = Kind.ABORTED
    reason = "REQUEST_IN_FLIGHT"
    retry_after_seconds = 1


async def claim_keys(tx: Tx, bodies: Mapping[str, bytes]) -> set[str]:
    """Takes the caller's keys for this transaction, as far as they are free; returns those.

    Args:
        bodies: The fingerprint of what is asked under each.

    Raises:
        RequestInFlight, Unavailable
    """
    keys = sorted(bodies)
    claim = {**_name_of(_owner(current_principal())), "keys": keys, "bodies": [bodies[key] for key in keys]}
    try:
        # Waits for a concurrent duplicate's transaction to end, as long as lock_timeout allows.
        return set(await tx.scalars(_CLAIM, claim))
    except asyncpg.PostgresError as error:
        if sqlstate(error) != LOCK_NOT_AVAILABLE:
            raise
        if not names_row_of(error, handled_requests.name):
            raise Unavailable("The requests handled before are locked.") from error
        raise build_in_flight(keys[0]) from None


async def list_answered(source: Source, keys: Sequence[str]) -> dict[str, Row]:
    """What was answered to the caller's requests with these keys, by key.

    Raises:
        NotSealed: a row is not what this service wrote. Whoever takes a key and commits has answered it, so that goes
            for one without an answer, too.
    """
    owner = _owner(current_principal())
    found = await fetch_rows(source, _FIND, of_principal=owner["principal"], keys=list(keys)) if keys else ()
    rows = {row.idempotency_key: row for row in found}
    for key in keys:
        if (row := rows.get(key)) is not None:
            told = (*owner.values(), key, row.answer, row.answer_is_error)
            seals_of(source).check(row.seal, handled_requests.name, key, *told)
    return {key: rows[key] for key in keys if key in rows}


async def keep_answers(
    tx: Tx, answers: Iterable[tuple[Sequence[str], Message | DomainError]], principal: Principal
) -> None:
    """Keeps what a principal's requests are answered, each with the keys of the request."""
    owner, rows = _owner(principal), []
    for keys, answer in answers:
        is_error = isinstance(answer, DomainError)
        message = to_status(answer, "") if isinstance(answer, DomainError) else answer
        stored = message.SerializeToString(deterministic=True)
        for key, kept in zip(keys, (stored, *(b"" for _ in keys[1:])), strict=False):
            seal = seals_of(tx).make(handled_requests.name, *owner.values(), key, kept, is_error)
            rows.append({"key": key, "kept": kept, "is_error": is_error, "made": seal})
    if rows:
        await tx.execute(_ANSWER, [_name_of(owner) | row for row in rows])


def build_in_flight(idempotency_key: str) -> RequestInFlight:
    return RequestInFlight("The first request is still running.", idempotency_key=idempotency_key)


def build_reused(idempotency_key: str, path: str) -> IdempotencyKeyReused:
    """
    Args:
        path: The request's field that has the key.
    """
    return IdempotencyKeyReused(
        "The idempotency_key was used with another request.",
        fields={path: "was used with another request"},
        idempotency_key=idempotency_key,
    )


def read_answer(row: Row, response_type: type[R]) -> R:
    """Raises the refusal, where that is the answer."""
    if not row.answer_is_error:
        return response_type.FromString(row.answer)
    refusal = from_status(status_pb2.Status.FromString(row.answer))
    refusal = require_present(refusal, "a stored refusal is a DomainError")
    raise refusal


def _name_of(owner: Mapping[str, str]) -> dict[str, str]:
    """Whose, as the statements name it."""
    return {f"of_{name}": value for name, value in owner.items()}


def _owner(principal: Principal) -> dict[str, str]:
    return {"org_id": principal.org_id, "principal": principal.key_owner}
