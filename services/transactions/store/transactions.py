"""Transactions and their moves.

A move is the row, its line of history and its event, written together: `move` is the only way a status changes. The
caller holds the row's lock; the database refuses an edge that is not allowed (c7).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from realco.transactions.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money
from services.transactions import messages
from services.transactions.domain.states import NONE, Status, check_move
from services.transactions.domain.transaction import ATTEMPTS_MAX, Failure, Transaction
from services.transactions.tables import provider_payments, transaction_history, transactions

_c = transactions.c
_READ = [column for column in transactions.columns if column.name not in {"previous_status", "due_at", "escrow_booked"}]

# QUEUED and PROCESSING are our own business: nobody is told.
_EVENTS: dict[Status, type[Message]] = {
    Status.INITIATED: events.TransactionCreated,
    Status.PENDING_APPROVAL: events.TransactionApprovalRequested,
    Status.APPROVED: events.TransactionApproved,
    Status.PENDING_SETTLEMENT: events.TransactionSubmitted,
    Status.SETTLED: events.TransactionSettled,
    Status.COMPLETED: events.TransactionCompleted,
    Status.FAILED: events.TransactionFailed,
    Status.RETURNED: events.TransactionReturned,
    Status.PENDING_RETRY: events.TransactionRetryScheduled,
    Status.CANCELLED: events.TransactionCancelled,
    Status.REVERSED: events.TransactionReversed,
}


def due_in(milliseconds: int) -> sa.ColumnElement[datetime]:
    """A moment of the database's clock: leases and back-off are system time, one clock for all workers."""
    return sa.func.clock_timestamp() + sa.literal(milliseconds) * sa.text("interval '1 millisecond'")


def is_due(moment: sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """Whether a moment of the database's clock has come.

    The clock is read once, in a subquery: compared with directly it would be read for each row, and no index could
    tell what is due from what waits.
    """
    return moment <= sa.select(sa.func.clock_timestamp()).scalar_subquery()


def read(row: sa.Row[Any]) -> Transaction:
    values = dict(row._mapping)
    code, message = values.pop("failure_code"), values.pop("failure_message")
    retryable, facts = values.pop("failure_retryable"), values.pop("failure_metadata")
    failure = None if code is None else Failure(code, message, bool(retryable), facts or {})
    amount = Money(values.pop("amount_minor"), values.pop("currency"))
    values["status"] = Status(values["status"])
    values["bank_account_id"] = values["bank_account_id"] or ""
    return Transaction(**values, amount=amount, failure=failure)


# What is asked all the time is built once: to build a statement costs more than to run it.
_SELECTED = sa.select(*_READ)


def selected() -> sa.Select[Any]:
    return _SELECTED


async def lock(tx: AsyncConnection, org_id: str, transaction_id: str) -> Transaction | None:
    statement = selected().where(_c.org_id == org_id, _c.transaction_id == transaction_id)
    row = (await tx.execute(statement.with_for_update(key_share=True))).one_or_none()
    return None if row is None else read(row)


async def lock_claimed(tx: AsyncConnection, claimed: Transaction) -> Transaction | None:
    """Locks what a job claimed; None where the claim is no longer ours: the lease ran out, or the row moved on."""
    return next(iter(await lock_all_claimed(tx, [claimed])), None)


async def lock_all_claimed(tx: AsyncConnection, claimed: Sequence[Transaction]) -> list[Transaction]:
    """Locks those of the claimed that are still ours, in the order of their ids."""
    keys = [(row.org_id, row.transaction_id, row.epoch, row.status) for row in claimed]
    ours = sa.tuple_(_c.org_id, _c.transaction_id, _c.epoch, _c.status).in_(keys)
    statement = selected().where(ours).order_by(_c.org_id, _c.transaction_id).with_for_update(key_share=True)
    return [read(row) for row in await tx.execute(statement)]


async def lock_contributions(tx: AsyncConnection, org_id: str, party_id: str, investment_id: str) -> tuple[int, int]:
    """(all that was asked for and did not fail or come back, the part of it that has not settled) of an investment.

    Whoever else adds to this investment waits for the end of this transaction.
    """
    key = sa.func.hashtextextended(f"contributions|{org_id}|{investment_id}", 0)
    await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
    total = sa.func.coalesce(sa.func.sum(_c.amount_minor), 0).cast(sa.BigInteger)
    unsettled = sa.func.coalesce(
        sa.func.sum(_c.amount_minor).filter(_c.status.not_in([Status.SETTLED, Status.COMPLETED])), 0
    ).cast(sa.BigInteger)
    ended = [Status.FAILED, Status.RETURNED, Status.CANCELLED, Status.REVERSED]
    statement = sa.select(total, unsettled).where(
        _c.org_id == org_id,
        _c.party_id == party_id,
        _c.investment_id == investment_id,
        _c.type == "ESCROW_DEPOSIT",
        _c.status.not_in(ended),
    )
    alive_minor, unsettled_minor = (await tx.execute(statement)).one()
    return alive_minor, unsettled_minor


async def insert(
    tx: AsyncConnection, rows: Sequence[dict[str, Any]], *, due_ms: int, actor: str, now: datetime
) -> list[Transaction]:
    """Records new transactions, INITIATED, with their first line of history and TransactionCreated.

    Args:
        due_ms: In how many milliseconds a job has them evaluated.
    """
    birth = {"status": Status.INITIATED, "previous_status": NONE, "version": 1, "created_at": now, "updated_at": now}
    statement = sa.insert(transactions).values(due_at=due_in(due_ms)).returning(*_READ)
    created = [read(row) for row in await tx.execute(statement, [row | birth for row in rows])]
    await _record(tx, created, NONE, reason="", actor=actor, now=now)
    return created


async def move(tx: AsyncConnection, row: Transaction, to: Status, **how: Any) -> Transaction:
    """Moves one locked transaction: see move_all."""
    return (await move_all(tx, [row], to, **how))[0]


async def move_all(
    tx: AsyncConnection,
    rows: Sequence[Transaction],
    to: Status,
    *,
    actor: str,
    now: datetime,
    reason: str = "",
    due_ms: int | None = None,
    **changes: Any,
) -> list[Transaction]:
    """Moves locked transactions of one organization and one status; moving them to where they are changes nothing.

    Args:
        due_ms: In how many milliseconds a job is to look at them; None: no job has anything to do.
        changes: Further columns, values or SQL expressions; `failure` is a Failure or None.

    Raises:
        IllegalStatusChange: there is no such edge.
    """
    if not rows:
        return []
    before = rows[0].status
    invariant(all(row.status is before for row in rows), "transactions that move together are in one status")
    if not check_move(before, to):
        return list(rows)
    values: dict[str, Any] = {
        "status": to,
        "previous_status": _c.status,
        "version": _c.version + 1,
        "updated_at": now,
        "tries": 0,
        "due_at": None if due_ms is None else due_in(due_ms),
        **_columns(changes),
    }
    keys = [(row.org_id, row.transaction_id, row.version) for row in rows]
    ours = sa.tuple_(_c.org_id, _c.transaction_id, _c.version).in_(keys)
    statement = sa.update(transactions).where(ours).values(values).returning(*_READ)
    found = {row.transaction_id: read(row) for row in await tx.execute(statement)}
    invariant(len(found) == len(rows), "transactions are moved under their locks")
    moved = [found[row.transaction_id] for row in rows]
    await _record(tx, moved, before, reason=reason, actor=actor, now=now)
    return moved


async def put_off(tx: AsyncConnection, claimed: Transaction, milliseconds: int) -> None:
    """Gives a claim back, to be due again later."""
    await _update_claimed(tx, claimed, due_at=due_in(milliseconds))


async def let_go(tx: AsyncConnection, claimed: Transaction) -> None:
    """Ends a claim for good: no job has anything to do with it any more."""
    await _update_claimed(tx, claimed, due_at=None)


async def mark_booked(tx: AsyncConnection, locked: Sequence[Transaction]) -> None:
    """Escrow has taken these payouts' money: the provider may be asked, at once."""
    keys = [(row.org_id, row.transaction_id) for row in locked]
    statement = sa.update(transactions).where(sa.tuple_(_c.org_id, _c.transaction_id).in_(keys))
    await tx.execute(statement.values(escrow_booked=True, tries=0, due_at=due_in(0)))


async def _update_claimed(tx: AsyncConnection, claimed: Transaction, **values: Any) -> None:
    await tx.execute(
        sa.update(transactions)
        .where(_c.org_id == claimed.org_id, _c.transaction_id == claimed.transaction_id, _c.epoch == claimed.epoch)
        .values(values)
    )


def claiming(
    status: Status, *, lease_ms: int, count_max: int, where: sa.ColumnElement[bool] | None = None
) -> sa.Executable:
    """The statement of `claim` for a job: which transactions it takes, how many, and for how long."""
    found = sa.select(_c.org_id, _c.transaction_id).where(_c.status == status, is_due(_c.due_at))
    if where is not None:
        found = found.where(where)
    due = found.order_by(_c.due_at).limit(count_max).with_for_update(skip_locked=True, key_share=True).cte("due")
    return (
        sa.update(transactions)
        .where(_c.org_id == due.c.org_id, _c.transaction_id == due.c.transaction_id)
        .values(epoch=_c.epoch + 1, tries=_c.tries + 1, due_at=due_in(lease_ms))
        .returning(*_READ)
    )


async def claim(tx: AsyncConnection, statement: sa.Executable) -> list[Transaction]:
    """Takes due transactions of every organization for this worker: nobody else gets them until the lease runs out."""
    return [read(row) for row in await tx.execute(statement)]


async def lock_due(tx: AsyncConnection, status: Status, now: datetime, count_max: int) -> list[Transaction]:
    """Locks retries, or ends of a return risk, that are due by business time, passing over those that are busy."""
    found = await tx.execute(_DUE[status], {"now": now, "count_max": count_max})
    return [read(row) for row in found]


_DUE = {
    status: selected()
    .where(_c.status == status, moment <= sa.bindparam("now", type_=moment.type))
    .order_by(moment)
    .limit(sa.bindparam("count_max", type_=sa.Integer))
    .with_for_update(skip_locked=True, key_share=True)
    for status, moment in ((Status.PENDING_RETRY, _c.next_attempt_at), (Status.SETTLED, _c.return_risk_end_at))
}


async def insert_attempts(tx: AsyncConnection, rows: Sequence[Transaction], now: datetime) -> None:
    values = [
        {
            "org_id": row.org_id,
            "transaction_id": row.transaction_id,
            "attempt": row.attempts,
            "presentment": max(row.presentments, 1),
            "provider": row.provider,
            "provider_key": row.provider_key,
            "created_at": now,
        }
        for row in rows
    ]
    if values:
        await tx.execute(sa.insert(provider_payments), values)


async def record_payment(tx: AsyncConnection, row: Transaction, provider_reference: str) -> None:
    """Notes under which id the provider has the current attempt."""
    p = provider_payments.c
    await tx.execute(
        sa.update(provider_payments)
        .where(p.org_id == row.org_id, p.transaction_id == row.transaction_id, p.attempt == row.attempts)
        .values(provider_reference=provider_reference)
    )


async def earlier_references(tx: AsyncConnection, row: Transaction) -> frozenset[str]:
    """The provider's ids of the attempts before the current one."""
    p = provider_payments.c
    statement = sa.select(p.provider_reference).where(
        p.org_id == row.org_id, p.transaction_id == row.transaction_id, p.attempt < row.attempts
    )
    return frozenset(reference for reference in await tx.scalars(statement) if reference)


async def find_payment(
    tx: AsyncConnection, provider: str, payment_id: str, transaction_id: str
) -> tuple[str, str] | None:
    """(org_id, transaction_id) of a provider's payment: by its id there, else by the reference, which is our id."""
    p = provider_payments.c
    # A key names its transaction, and is indexed across organizations.
    keys = [f"txn:{transaction_id}:{attempt}" for attempt in range(1, ATTEMPTS_MAX + 1)]
    statement = (
        sa.select(p.org_id, p.transaction_id)
        .where(p.provider == provider, sa.or_(p.provider_reference == payment_id, p.provider_key.in_(keys)))
        .limit(1)
    )
    row = (await tx.execute(statement)).one_or_none()
    return None if row is None else (row.org_id, row.transaction_id)


def _columns(changes: dict[str, Any]) -> dict[str, Any]:
    if "failure" not in changes:
        return changes
    failure: Failure | None = changes.pop("failure")
    return changes | {
        "failure_code": failure and failure.code,
        "failure_message": failure and failure.message,
        "failure_retryable": failure and failure.retryable,
        "failure_metadata": failure and dict(failure.metadata),
    }


async def _record(
    tx: AsyncConnection, rows: Sequence[Transaction], before: str, *, reason: str, actor: str, now: datetime
) -> None:
    """Writes a move's line of history and its event."""
    lines = [
        {
            "org_id": row.org_id,
            "transaction_id": row.transaction_id,
            "version": row.version,
            "from_status": before,
            "to_status": row.status,
            "reason": reason,
            "actor": actor,
            "occurred_at": now,
        }
        for row in rows
    ]
    await tx.execute(sa.insert(transaction_history), lines)
    event = _EVENTS.get(rows[0].status)
    if event is None:
        return
    invariant(all(row.org_id == current_principal().org_id for row in rows), "an event bears its own organization")
    previous = before or "STATUS_UNSPECIFIED"
    told = [event(transaction=messages.to_transaction(row, now), previous_status=previous) for row in rows]
    await outbox.enqueue_all(tx, told, now=now, actor=actor)
