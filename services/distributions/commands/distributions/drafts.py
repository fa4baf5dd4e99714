"""Distributions drafted, and cancelled before their execution."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import distributions_pb2 as pb
from realco.distributions.v1 import events_pb2 as events

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_date
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import check_currency
from services.distributions.actions import answer_distribution
from services.distributions.commands.raises.offerings import PLANS_END
from services.distributions.domain.distribution import Allocation, Distribution, check_may_cancel
from services.distributions.domain.offering import check_date_order, check_may_distribute
from services.distributions.domain.states import AllocationStatus, DistributionStatus
from services.distributions.store.allocations import lock_allocations_of
from services.distributions.store.approvals import DISTRIBUTION_APPROVALS
from services.distributions.store.distributions import insert_distribution, lock_distribution, save_distribution
from services.distributions.store.offerings import require_offering


async def create_distribution(tx: Tx, request: pb.CreateDistributionRequest, now: datetime) -> pb.Distribution:
    offering = await require_offering(tx, request.offering_id, "offering_id")
    check_may_distribute(offering)
    check_currency(request.amount.currency_code, offering.currency, "amount.currency_code")
    on = now.date()
    if request.HasField("distribution_date"):
        on = from_date(request.distribution_date, "distribution_date")
    check_date_order(offering, on)
    if on > now.date() + PLANS_END:
        # Declared, it would keep every earlier date from being distributed, for ever.
        raise InvalidField(
            "The distribution_date is too far away: it must lie within ten years of now.",
            fields={"distribution_date": "must lie within ten years of now"},
        )
    distribution = Distribution(
        distribution_id=new_id("dist"),
        offering_id=offering.offering_id,
        type=pb.Distribution.Type.Name(request.type),
        currency=offering.currency,
        amount_minor=request.amount.amount_minor,
        distribution_date=on,
        description=request.description if request.HasField("description") else None,
        external_id=request.external_id if request.HasField("external_id") else None,
        metadata=dict(request.metadata),
        created_by=current_principal().person,
        makers=frozenset({current_principal().person}),
        created_at=now,
        updated_at=now,
    )
    await insert_distribution(tx, distribution)
    return answer_distribution(offering, distribution, now)


async def cancel_distribution(tx: Tx, request: pb.CancelDistributionRequest, now: datetime) -> pb.Distribution:
    """Ends what is not being paid; a cancelled one stays as it is.

    Raises: EtagMismatch, IllegalStatusChange, TooManyStops.
    """
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    check_etag(request.etag, distribution.etag)
    if distribution.status is DistributionStatus.CANCELLED:
        return answer_distribution(offering, distribution, now)
    check_may_cancel(distribution)
    if distribution.created_by != current_principal().person:
        await note_stop(tx, "CANCEL_DISTRIBUTION", offering.offering_id, now)
    await DISTRIBUTION_APPROVALS.cancel(tx, distribution.distribution_id, now)
    cancelled = replace(distribution, status=DistributionStatus.CANCELLED, expires_at=None)
    allocations = await list_cancellations(tx, distribution.distribution_id)
    after, _ = await save_distribution(tx, distribution, cancelled, events.DistributionCancelled(), now, allocations)
    return answer_distribution(offering, after, now)


async def list_cancellations(tx: Tx, distribution_id: str) -> list[tuple[Allocation, Allocation]]:
    """The moves that cancel the allocations of a distribution that will not be paid. Locks them."""
    return [
        (each, replace(each, status=AllocationStatus.CANCELLED))
        for each in await lock_allocations_of(tx, distribution_id)
    ]
