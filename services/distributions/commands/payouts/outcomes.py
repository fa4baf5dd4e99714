"""What becomes of payouts, and what follows for the allocation, the distribution, the refund or the proceeds.

Events may come twice, late, or before the answer to the call that caused them: the transaction's version orders them,
and each attempt ends once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from realco.transactions.v1 import transactions_pb2 as transactions

from services.chassis.calls.wire import from_enum, from_failure
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import OfNewerRelease
from services.chassis.values.failure import Failure
from services.distributions.commands.payouts.allocations import end_allocation
from services.distributions.commands.raises.refunds import pay_due_refunds
from services.distributions.domain.payout import Payout, PayoutType, build_refund_part, find_part
from services.distributions.domain.states import PayoutStatus
from services.distributions.store.distributions import lock_distribution
from services.distributions.store.investments import save_investments
from services.distributions.store.offerings import lock_offering, save_offering
from services.distributions.store.payouts import PAYOUTS, ReportedPayout, find_payout, is_newest, lock_refund_positions

# A transaction that was cancelled did not fail, so it says no failure.
_CANCELLED = Failure("PAYOUT_CANCELLED", "The payout ended without being paid.")
_PAYOUT_TYPES = frozenset(each.value for each in PayoutType)


def is_payout(transaction: transactions.Transaction) -> bool:
    """Whether a transaction that is no contribution is of a type that this service may have asked for.

    Raises:
        OfNewerRelease: a newer process of this service may have.
    """
    name = from_enum(transactions.Transaction.Type, transaction.type)
    if name.isdecimal():
        raise OfNewerRelease(f"transactions of type {name}")
    return name in _PAYOUT_TYPES


async def record_outcome(
    tx: Tx, transaction: transactions.Transaction, version: int, outcome: PayoutStatus, now: datetime
) -> None:
    """Applies what an event of this version reports of a payout: COMPLETED, FAILED or RETURNED."""
    reported = ReportedPayout(
        transaction_id=transaction.transaction_id,
        type=PayoutType(transactions.Transaction.Type.Name(transaction.type)),
        escrow_account_id=transaction.escrow_account_id,
        party_id=transaction.party_id,
        amount_minor=transaction.amount.amount_minor,
        allocation_id=transaction.allocation_id or None,
        investment_id=transaction.investment_id or None,
    )
    found = await find_payout(tx, reported)
    if found is None:
        # Transactions asks this service about every payout before it takes it on.
        log.error("payout_not_asked_for", transaction_id=transaction.transaction_id)
        return
    failure = None
    if outcome is not PayoutStatus.COMPLETED:
        failure = from_failure(transaction.failure) if transaction.HasField("failure") else _CANCELLED
    ended = replace(
        found,
        status=outcome,
        transaction_id=transaction.transaction_id,
        transaction_version=version,
        failure=failure,
    )
    await _end_payout(tx, ended, now)


async def record_refusal(tx: Tx, payout: Payout, failure: Failure, now: datetime) -> None:
    """Transactions definitely refused to create the payout: the attempt ended, and no transaction exists.

    A refund that goes to several cards is ordered in parts: the next attempt is what goes to the first one, and the
    rest follows once that is paid, as whatever is owed.
    """
    refused = replace(payout, status=PayoutStatus.FAILED, failure=failure)
    part_minor = find_part(payout, failure)
    if part_minor is None:
        await _end_payout(tx, refused, now)
        return
    await lock_offering(tx, payout.offering_id)
    kept = await _keep_end(tx, refused, now)
    if kept is not None and await is_newest(tx, kept):
        await PAYOUTS.insert_all(tx, [build_refund_part(kept, part_minor, now)])


async def record_set_off(tx: Tx, payout: Payout, now: datetime) -> None:
    """All of it was set off: there is nothing to pay, and no transaction."""
    await _end_payout(tx, replace(payout, status=PayoutStatus.COMPLETED), now)


async def _end_payout(tx: Tx, ended: Payout, now: datetime) -> None:
    """Keeps how an attempt ended, unless that is known already, and does what follows. The parent is locked first."""
    if ended.distribution_id is not None:
        _, distribution = await lock_distribution(tx, ended.distribution_id)
        if (payout := await _keep_end(tx, ended, now)) is not None:
            await end_allocation(tx, distribution, payout, now)
        return
    offering = await lock_offering(tx, ended.offering_id)
    payout = await _keep_end(tx, ended, now)
    if payout is None:
        return
    newest = await is_newest(tx, payout)
    if payout.type is PayoutType.REFUND and payout.investment_id is not None:
        [position] = await lock_refund_positions(tx, offering.offering_id, [payout.investment_id])
        # Of one that goes to several cards an earlier part may fail last: it is told all the same, and stays so.
        investment = position.investment
        failure = payout.failure if payout.has_failed else None
        why = failure or (investment.refund_failure if position.has_failed else None)
        if newest or failure:
            changed = (investment, investment.with_refund_failure(why))
            await save_investments(tx, [changed], events.InvestmentUpdated, now)
        await pay_due_refunds(tx, offering, now, investment_ids=[payout.investment_id])
    elif newest:
        paid = replace(
            offering,
            proceeds_failure=payout.failure,
            proceeds_transaction_id=payout.transaction_id or offering.proceeds_transaction_id,
        )
        await save_offering(tx, offering, paid, events.OfferingUpdated(), now)
    else:
        log.error("earlier_payout_moved", request_key=payout.request_key, outcome=payout.status.value)


async def _keep_end(tx: Tx, ended: Payout, now: datetime) -> Payout | None:
    """The payout as it is kept; None where this says nothing new."""
    payout = await PAYOUTS.lock_known(tx, ended.request_key)
    if ended.transaction_id is None:
        if payout.status is not PayoutStatus.REQUESTED:
            return None
    elif ended.transaction_version <= payout.transaction_version:
        return None
    after = replace(
        payout,
        status=ended.status,
        transaction_id=ended.transaction_id,
        transaction_version=ended.transaction_version,
        failure=ended.failure,
    )
    payout = await PAYOUTS.save(tx, payout, after, now)
    if payout.failure is not None:
        log.warning(
            "payout_not_paid",
            request_key=payout.request_key,
            outcome=payout.status.value,
            code=payout.failure.code,
            message=payout.failure.message,
        )
    return payout
