"""What the end of a payout means for its allocation, its investor and its distribution."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events

from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.failure import Failure
from services.chassis.values.invariant import invariant
from services.chassis.values.money import allocate
from services.distributions.domain.distribution import (
    UNPAID,
    Allocation,
    Distribution,
    PayeeType,
    count_set_off,
    find_end,
)
from services.distributions.domain.payout import Payout
from services.distributions.domain.states import (
    ALLOCATION_MOVES,
    DISTRIBUTION_MOVES,
    AllocationStatus,
    DistributionStatus,
    PayoutStatus,
)
from services.distributions.store.allocations import ALLOCATIONS, count_ended
from services.distributions.store.distributions import save_distribution
from services.distributions.store.investments import lock_investments_with_capital, save_investments

_OUTCOMES = {
    PayoutStatus.COMPLETED: AllocationStatus.COMPLETED,
    PayoutStatus.FAILED: AllocationStatus.FAILED,
    PayoutStatus.RETURNED: AllocationStatus.RETURNED,
}
_ENDS = {
    AllocationStatus.COMPLETED: events.AllocationCompleted,
    AllocationStatus.FAILED: events.AllocationFailed,
    AllocationStatus.RETURNED: events.AllocationReturned,
}
_ROLLED_UP = {
    DistributionStatus.COMPLETED: events.DistributionCompleted,
    DistributionStatus.PARTIALLY_FAILED: events.DistributionPartiallyFailed,
    DistributionStatus.FAILED: events.DistributionFailed,
}


async def end_allocation(tx: Tx, distribution: Distribution, payout: Payout, now: datetime) -> None:
    """Moves the allocation to where its payout ended. The caller has the distribution's lock."""
    invariant(payout.allocation_id is not None, "a payout of a distribution pays an allocation")
    allocation = await ALLOCATIONS.lock_known(tx, payout.allocation_id or "")
    if payout.attempt != allocation.attempts:
        # An attempt that was followed by another has failed; that it was paid after all needs a person.
        log.error("earlier_payout_moved", request_key=payout.request_key, outcome=payout.status.value)
        return
    status = _OUTCOMES[payout.status]
    if status is AllocationStatus.FAILED and allocation.status is AllocationStatus.COMPLETED:
        status = AllocationStatus.RETURNED
    if status is allocation.status:
        return
    if status not in ALLOCATION_MOVES[allocation.status]:
        # It had failed, and the same transaction went on: it was under way again.
        distribution, allocation = await _resume(tx, distribution, allocation, now)
    await _move_to_end(tx, distribution, allocation, status, payout, now)


async def _resume(
    tx: Tx, distribution: Distribution, allocation: Allocation, now: datetime
) -> tuple[Distribution, Allocation]:
    resumed = replace(allocation, status=AllocationStatus.PROCESSING, failure=None)
    after, moved = await save_distribution(
        tx, distribution, distribution, events.AllocationResent(), now, [(allocation, resumed)]
    )
    return after, moved[0]


async def _move_to_end(
    tx: Tx,
    distribution: Distribution,
    allocation: Allocation,
    status: AllocationStatus,
    payout: Payout,
    now: datetime,
) -> None:
    sign = (status is AllocationStatus.COMPLETED) - (allocation.status is AllocationStatus.COMPLETED)
    ended = replace(
        count_set_off(allocation, payout.amount_minor),
        status=status,
        transaction_id=payout.transaction_id,
        failure=payout.failure,
    )
    paid = replace(distribution, paid_minor=distribution.paid_minor + sign * allocation.amount_minor)
    event = _ENDS[status]()
    distribution, _ = await save_distribution(tx, distribution, paid, event, now, [(allocation, ended)])
    if sign and allocation.payee_type is PayeeType.INVESTOR:
        await _count_distributed(tx, allocation, sign, now)
    await _roll_up(tx, distribution, now)


async def _count_distributed(tx: Tx, allocation: Allocation, sign: int, now: datetime) -> None:
    """An investor with several investments in the offering counts a payment on each, by contributed capital."""
    held = await lock_investments_with_capital(tx, allocation.offering_id, allocation.party_id)
    parts = allocate(allocation.amount_minor, {each.investment_id: each.released_minor for each in held})
    changes = [
        (each, replace(each, distributed_minor=each.distributed_minor + sign * parts[each.investment_id]))
        for each in held
    ]
    await save_investments(tx, changes, events.InvestmentUpdated, now)


async def _roll_up(tx: Tx, distribution: Distribution, now: datetime) -> None:
    """Ends the distribution when none of its allocations is under way. The caller has its lock."""
    counts = await count_ended(tx, distribution)
    if not counts:
        return
    end = find_end(counts, distribution.status)
    if end is distribution.status:
        return
    if end not in DISTRIBUTION_MOVES[distribution.status]:
        resumed = replace(distribution, status=DistributionStatus.PROCESSING, failure=None)
        distribution, _ = await save_distribution(tx, distribution, resumed, events.DistributionResumed(), now)
    ended = replace(distribution, status=end, failure=_build_failure(counts))
    await save_distribution(tx, distribution, ended, _ROLLED_UP[end](), now)


def _build_failure(counts: dict[AllocationStatus, int]) -> Failure | None:
    unpaid = sum(counts.get(status, 0) for status in UNPAID)
    if not unpaid:
        return None
    of = unpaid + counts.get(AllocationStatus.COMPLETED, 0)
    message = f"{unpaid} of {of} allocations were not paid; each says why."
    return Failure("ALLOCATIONS_NOT_PAID", message, True, {"unpaid_count": str(unpaid), "allocation_count": str(of)})
