"""What becomes of payouts, and what follows for the allocation, the distribution, the refund or the proceeds.

Events may come twice, late, or before the answer to the call that caused them: the transaction's version orders them,
and each attempt ends once.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from realco.distributions.v1 import events_pb2 as events
from realco.transactions.v1 import transactions_pb2 as transactions
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.outbox import enqueue
from services.chassis.process.telemetry import log
from services.chassis.values.money import allocate
from services.distributions import messages
from services.distributions.commands import refunds
from services.distributions.domain.states import (
    ALLOCATION_MOVES,
    DISTRIBUTION_MOVES,
    AllocationStatus,
    DistributionStatus,
    move,
)
from services.distributions.store import distributions as distributions_store
from services.distributions.store import investments as investments_store
from services.distributions.store import payouts as payouts_store
from services.distributions.store import rows
from services.distributions.tables import allocations, distributions, investments, offerings, payouts


class Outcome(Enum):
    """How an attempt to pay ended."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"


async def told(tx: AsyncConnection, transaction: transactions.Transaction, outcome: Outcome, now: datetime) -> None:
    """Applies what transactions reports of a payout."""
    found = await payouts_store.of_transaction(tx, transaction)
    if found is None:
        # Transactions pays others too: withdrawals that people asked for.
        log.info("payout_of_somebody_else", transaction_id=transaction.transaction_id)
        return
    failure = ""
    if outcome is not Outcome.COMPLETED:
        code = transaction.failure.code or transactions.Transaction.Status.Name(transaction.status)
        failure = f"{code}: {transaction.failure.message or 'the payout ended without being paid'}"
    await _end(tx, found, outcome, failure, now, transaction.transaction_id, transaction.version)


async def refused(tx: AsyncConnection, payout: rows.Row, failure: str, now: datetime) -> None:
    """Transactions definitely refused to create the payout: the attempt ended, and no transaction exists."""
    await _end(tx, payout, Outcome.FAILED, failure, now, None, 0)


async def _end(
    tx: AsyncConnection,
    found: rows.Row,
    outcome: Outcome,
    failure: str,
    now: datetime,
    transaction_id: str | None,
    version: int,
) -> None:
    parent, parent_id = (
        (distributions, found.distribution_id) if found.distribution_id is not None else (offerings, found.offering_id)
    )
    holder = await rows.find(tx, parent, parent_id, lock=True)
    payout = await rows.find(tx, payouts, found.request_key, lock=True)
    assert holder is not None
    assert payout is not None
    if transaction_id is None and payout.status != "REQUESTED":
        return
    if transaction_id is not None and version <= payout.transaction_version:
        return
    payout = await rows.save(
        tx,
        payouts,
        payout.request_key,
        status=outcome.value,
        transaction_id=transaction_id,
        transaction_version=version,
        failure=failure,
        updated_at=now,
    )
    if outcome is not Outcome.COMPLETED:
        log.warning("payout_not_paid", request_key=payout.request_key, outcome=outcome.value, failure=failure)
    if payout.type == "DISTRIBUTION":
        await _allocation_ended(tx, holder, payout, outcome, now)
    elif payout.type == "REFUND":
        if await payouts_store.is_newest(tx, payout):
            await rows.save(tx, investments, payout.investment_id, refund_failure=payout.failure, updated_at=now)
        await refunds.advance(tx, holder, now, investment_ids=[payout.investment_id])
    elif await payouts_store.is_newest(tx, payout):
        paid_by = {} if transaction_id is None else {"proceeds_transaction_id": transaction_id}
        await rows.save(tx, offerings, holder.offering_id, proceeds_failure=payout.failure, updated_at=now, **paid_by)
    else:
        log.error("earlier_payout_moved", request_key=payout.request_key, outcome=outcome.value)


async def _allocation_ended(
    tx: AsyncConnection, distribution: rows.Row, payout: rows.Row, outcome: Outcome, now: datetime
) -> None:
    allocation = await rows.find(tx, allocations, payout.allocation_id, lock=True)
    assert allocation is not None
    if payout.attempt != allocation.attempts:
        # An attempt that was followed by another has failed; that it was paid after all needs a person.
        log.error("earlier_payout_moved", request_key=payout.request_key, outcome=outcome.value)
        return
    before, after = AllocationStatus(allocation.status), AllocationStatus(outcome.value)
    if before is after:
        return
    if after is AllocationStatus.FAILED and before is AllocationStatus.COMPLETED:
        after = AllocationStatus.RETURNED
    if after not in ALLOCATION_MOVES[before]:
        # It had failed, and the same transaction went on: it was under way again.
        move(ALLOCATION_MOVES, before, AllocationStatus.PROCESSING)
        await rows.save(tx, allocations, allocation.allocation_id, status="PROCESSING", updated_at=now)
        move(ALLOCATION_MOVES, AllocationStatus.PROCESSING, after)
    allocation = await rows.save(
        tx,
        allocations,
        allocation.allocation_id,
        status=after.value,
        transaction_id=payout.transaction_id or "",
        failure=payout.failure,
        updated_at=now,
    )
    await _count_distributed(tx, distribution, allocation, before, after, now)
    event = events.AllocationPaid if after is AllocationStatus.COMPLETED else events.AllocationFailed
    await enqueue(tx, event(allocation=messages.allocation(allocation)), now=now)
    await roll_up(tx, distribution, now)


async def _count_distributed(
    tx: AsyncConnection,
    distribution: rows.Row,
    allocation: rows.Row,
    before: AllocationStatus,
    after: AllocationStatus,
    now: datetime,
) -> None:
    """An investor with several investments in the offering counts a payment on each, by contributed capital."""
    sign = (after is AllocationStatus.COMPLETED) - (before is AllocationStatus.COMPLETED)
    if sign == 0 or allocation.payee_type != "INVESTOR":
        return
    capital = await investments_store.capital_of(tx, distribution.offering_id, allocation.party_id)
    parts = allocate(allocation.total_minor, capital)
    await investments_store.add_distributed(tx, {key: sign * part for key, part in parts.items()}, now)


async def roll_up(tx: AsyncConnection, distribution: rows.Row, now: datetime) -> None:
    """Ends the distribution when none of its allocations is under way. The caller has its lock."""
    counts = await distributions_store.statuses(tx, distribution.distribution_id)
    if any(counts.get(status) for status in ("PENDING", "PROCESSING", "ON_HOLD")):
        return
    current = DistributionStatus(distribution.status)
    paid, owed = counts.get("COMPLETED", 0), counts.get("FAILED", 0) + counts.get("RETURNED", 0)
    if not owed:
        target = DistributionStatus.COMPLETED
    elif paid or current in (DistributionStatus.COMPLETED, DistributionStatus.PARTIALLY_FAILED):
        target = DistributionStatus.PARTIALLY_FAILED  # something was paid, even if all of it has come back
    else:
        target = DistributionStatus.FAILED
    if target is current:
        return
    if target not in DISTRIBUTION_MOVES[current]:
        await rows.save(tx, distributions, distribution.distribution_id, status="PROCESSING", updated_at=now)
    after = await rows.save(
        tx,
        distributions,
        distribution.distribution_id,
        status=target.value,
        failure=f"{owed} of {paid + owed} allocations were not paid" if owed else "",
        updated_at=now,
    )
    event = events.DistributionCompleted if target is DistributionStatus.COMPLETED else events.DistributionFailed
    message = await distributions_store.describe_one(tx, after)
    await enqueue(tx, event(distribution=message), now=now)
