"""Payouts: one row an attempt to pay somebody, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from realco.transactions.v1 import transactions_pb2 as transactions
from sqlalchemy.ext.asyncio import AsyncConnection

from services.distributions.store.rows import Row, values_table
from services.distributions.tables import allocations, investments, payouts

BATCH_MAX = 1000  # what one BatchCreatePayouts takes

_OPEN = ("REQUESTED", "CREATED")


async def requested(tx: AsyncConnection, saga_id: str) -> Sequence[Row]:
    """The saga's next payouts that transactions has not been asked for, or has not answered, by key."""
    query = (
        sa.select(payouts)
        .where(payouts.c.saga_id == saga_id, payouts.c.status == "REQUESTED")
        .order_by(payouts.c.request_key)
        .limit(BATCH_MAX)
    )
    return (await tx.execute(query)).all()


async def record_created(tx: AsyncConnection, transaction_ids: Mapping[str, str], now: datetime) -> None:
    """Keeps the transaction each key got, on the payout and on the allocation it pays. Repeating changes nothing."""
    keys = sorted(transaction_ids)
    created = values_table(("key", sa.Text(), keys), ("id", sa.Text(), [transaction_ids[key] for key in keys]))
    # An event may have told the outcome before the answer did: then there is nothing left to record.
    update = (
        sa.update(payouts)
        .where(payouts.c.request_key == created.c.key, payouts.c.status == "REQUESTED")
        .values(status="CREATED", transaction_id=created.c.id, updated_at=now)
        .returning(payouts.c.allocation_id, payouts.c.transaction_id)
    )
    recorded = [row for row in await tx.execute(update) if row.allocation_id is not None]
    paid = values_table(
        ("allocation_id", sa.Text(), [row.allocation_id for row in recorded]),
        ("id", sa.Text(), [row.transaction_id for row in recorded]),
    )
    await tx.execute(
        sa.update(allocations)
        .where(allocations.c.allocation_id == paid.c.allocation_id)
        .values(transaction_id=paid.c.id, updated_at=now)
    )


async def of_transaction(tx: AsyncConnection, transaction: transactions.Transaction) -> Row | None:
    """The payout a transaction carries out.

    Its event may arrive before the answer that told us its id. Then it belongs to the one attempt that waits for an
    answer: an earlier attempt ended by an event, so its id is known, or by a refusal, so it has no transaction.
    """
    known = sa.select(payouts).where(payouts.c.transaction_id == transaction.transaction_id)
    row = (await tx.execute(known)).one_or_none()
    if row is not None:
        return row
    kind = transactions.Transaction.Type.Name(transaction.type)
    waiting = sa.select(payouts).where(
        payouts.c.type == kind,
        payouts.c.status == "REQUESTED",
        payouts.c.escrow_account_id == transaction.escrow_account_id,
        payouts.c.party_id == transaction.party_id,
        payouts.c.amount_minor == transaction.amount.amount_minor,
    )
    if kind == "DISTRIBUTION":
        waiting = waiting.where(payouts.c.allocation_id == transaction.allocation_id)
    elif kind == "REFUND":
        waiting = waiting.where(payouts.c.investment_id == transaction.investment_id)
    return (await tx.execute(waiting)).one_or_none()


async def is_newest(tx: AsyncConnection, payout: Row) -> bool:
    """True unless a later attempt to pay the same proceeds or the same refund was begun."""
    same = sa.and_(
        payouts.c.offering_id == payout.offering_id,
        payouts.c.type == payout.type,
        payouts.c.investment_id.is_not_distinct_from(payout.investment_id),
    )
    later = sa.select(sa.exists().where(same, payouts.c.attempt > payout.attempt))
    return not await tx.scalar(later)


async def last_proceeds(tx: AsyncConnection, offering_id: str) -> Row | None:
    """The newest attempt to pay the proceeds of an offering."""
    query = (
        sa.select(payouts)
        .where(payouts.c.offering_id == offering_id, payouts.c.type == "ESCROW_WITHDRAWAL")
        .order_by(payouts.c.attempt.desc())
        .limit(1)
    )
    return (await tx.execute(query)).one_or_none()


async def refund_positions(
    tx: AsyncConnection, offering_id: str, investment_ids: Sequence[str] | None = None
) -> Sequence[Row]:
    """Each investment with `paid_minor` (refunds paid or under way), `open_count`, `last_attempt`, `last_status`."""
    refunds = payouts.c
    last = (
        sa.select(refunds.status, refunds.attempt)
        .where(refunds.investment_id == investments.c.investment_id)
        .order_by(refunds.attempt.desc())
        .limit(1)
        .lateral("last")
    )
    sums = (
        sa.select(
            sa.cast(
                sa.func.coalesce(
                    sa.func.sum(refunds.amount_minor).filter(refunds.status.in_((*_OPEN, "COMPLETED"))), 0
                ),
                sa.BigInteger,
            ).label("paid_minor"),
            sa.func.count().filter(refunds.status.in_(_OPEN)).label("open_count"),
        )
        .where(refunds.investment_id == investments.c.investment_id)
        .lateral("sums")
    )
    query = (
        sa.select(
            investments,
            sums.c.paid_minor,
            sums.c.open_count,
            last.c.attempt.label("last_attempt"),
            last.c.status.label("last_status"),
        )
        .select_from(investments.join(sums, sa.true()).outerjoin(last, sa.true()))
        .where(investments.c.offering_id == offering_id)
        .order_by(investments.c.investment_id)
    )
    if investment_ids is not None:
        query = query.where(investments.c.investment_id.in_(investment_ids))
    return (await tx.execute(query)).all()
