"""Another attempt to pay an allocation, only after the last one has definitely ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import distributions_pb2 as pb
from realco.distributions.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.values.etags import check_etag
from services.distributions.actions import answer_allocation
from services.distributions.domain.distribution import check_may_resend
from services.distributions.domain.payout import build_allocation_payout
from services.distributions.domain.refusals import AllocationNotFound
from services.distributions.domain.states import AllocationStatus, DistributionStatus
from services.distributions.store.allocations import ALLOCATIONS
from services.distributions.store.distributions import lock_distribution, save_distribution
from services.distributions.store.payouts import PAYOUTS
from services.distributions.store.sagas import SagaKind, SagaStep, insert_saga


async def resend_allocation(tx: AsyncConnection, request: pb.ResendAllocationRequest, now: datetime) -> pb.Allocation:
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    allocation = await ALLOCATIONS.lock(tx, request.allocation_id)
    if allocation is None or allocation.distribution_id != distribution.distribution_id:
        raise AllocationNotFound
    check_etag(request.etag, allocation.etag)
    check_may_resend(allocation)
    if distribution.status is not DistributionStatus.PROCESSING:
        resumed = replace(distribution, status=DistributionStatus.PROCESSING, failure=None)
        distribution, _ = await save_distribution(tx, distribution, resumed, events.DistributionResumed(), now)
    again = replace(allocation, status=AllocationStatus.PROCESSING, attempts=allocation.attempts + 1, failure=None)
    _, moved = await save_distribution(
        tx, distribution, distribution, events.AllocationResent(), now, [(allocation, again)]
    )
    person = current_principal().person
    saga_id = await insert_saga(tx, SagaKind.RESEND, allocation.allocation_id, SagaStep.REQUEST_PAYOUTS, person)
    payout = build_allocation_payout(offering, moved[0], saga_id, request.bank_account_id or None, now)
    await PAYOUTS.insert_all(tx, [payout])
    return answer_allocation(moved[0])
