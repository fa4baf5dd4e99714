"""Reads of distributions and allocations.

An investor reaches a distribution that was declared and pays something to one of its parties: what is not declared may
still change, and is nobody's yet.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from realco.distributions.v1 import distributions_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.data.paging import one_of, read_page
from services.chassis.data.reach import within_reach
from services.chassis.data.transaction import Tx
from services.distributions.actions import answer_allocation, answer_waiting
from services.distributions.domain.distribution import Distribution
from services.distributions.domain.refusals import AllocationNotFound, DistributionNotFound
from services.distributions.messages import to_allocation, to_distribution
from services.distributions.queries.lists import read_page_of
from services.distributions.store.allocations import ALLOCATIONS
from services.distributions.store.distributions import DISTRIBUTIONS
from services.distributions.store.offerings import require_offering
from services.distributions.tables import allocations, distributions


async def get_distribution(tx: Tx, request: pb.GetDistributionRequest, now: datetime) -> pb.Distribution:
    distribution = await _require_reachable(tx, request.distribution_id)
    offering = await require_offering(tx, distribution.offering_id)
    return await answer_waiting(tx, offering, distribution, now)


async def list_distributions(
    tx: Tx, request: pb.ListDistributionsRequest, now: datetime
) -> pb.ListDistributionsResponse:
    table = distributions.c
    conditions = [
        _is_reachable(),
        *one_of(table.offering_id, request.offering_id),
        *one_of(table.status, [pb.Distribution.Status.Name(each) for each in request.status]),
    ]
    if request.party_id:
        conditions.append(_pays(allocations.c.party_id.in_(list(request.party_id))))
    page = await read_page_of(tx, request, DISTRIBUTIONS, *conditions)
    return pb.ListDistributionsResponse(
        distributions=DISTRIBUTIONS.show_all(tx, page.rows, to_distribution),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def list_allocations(tx: Tx, request: pb.ListAllocationsRequest, now: datetime) -> pb.ListAllocationsResponse:
    await _require_reachable(tx, request.distribution_id)
    table = allocations.c
    query = ALLOCATIONS.select().where(
        table.distribution_id == request.distribution_id,
        within_reach(table.party_id),
        *one_of(table.allocation_id, request.ids),
        *one_of(table.status, [pb.Allocation.Status.Name(each) for each in request.status]),
        *one_of(table.party_id, request.party_id),
    )
    page = await read_page(tx, request, query, [table.party_id, table.payee_type], descending=False)
    return pb.ListAllocationsResponse(
        allocations=ALLOCATIONS.show_all(tx, page.rows, to_allocation),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def get_allocation(tx: Tx, request: pb.GetAllocationRequest, now: datetime) -> pb.Allocation:
    await _require_reachable(tx, request.distribution_id)
    allocation = await ALLOCATIONS.find(tx, request.allocation_id)
    if (
        allocation is None
        or allocation.distribution_id != request.distribution_id
        or not current_principal().may_reach(allocation.party_id)
    ):
        raise AllocationNotFound
    return answer_allocation(allocation)


async def _require_reachable(tx: Tx, distribution_id: str) -> Distribution:
    """Raises: DistributionNotFound."""
    found = await DISTRIBUTIONS.list_all(tx, distributions.c.distribution_id == distribution_id, _is_reachable())
    if not found:
        raise DistributionNotFound
    return found[0]


def _is_reachable() -> sa.ColumnElement[bool]:
    if not current_principal().confined:
        return sa.true()
    return sa.and_(distributions.c.declared_at.is_not(None), _pays(within_reach(allocations.c.party_id)))


def _pays(payee: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Whether an allocation of the distribution is to such a payee."""
    return sa.exists().where(
        allocations.c.org_id == distributions.c.org_id,
        allocations.c.distribution_id == distributions.c.distribution_id,
        payee,
    )
