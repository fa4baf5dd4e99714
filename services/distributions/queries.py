"""Reads: rows to messages, past the domain. The organization is the caller's; an investor sees its own investments."""

from __future__ import annotations

import sqlalchemy as sa
from realco.distributions.v1 import distributions_pb2, offerings_pb2
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data.paging import Page
from services.chassis.data.reach import within_reach
from services.distributions import messages
from services.distributions.errors import DistributionNotFound, InvestmentNotFound, OfferingNotFound
from services.distributions.store import distributions as store
from services.distributions.store import rows
from services.distributions.tables import allocations, distributions, investments, offerings


async def get_offering(tx: AsyncConnection, request: offerings_pb2.GetOfferingRequest) -> offerings_pb2.Offering:
    row = await rows.find(tx, offerings, request.offering_id)
    if row is None:
        raise OfferingNotFound("No such offering.")
    return messages.offering(row)


async def list_offerings(
    tx: AsyncConnection, request: offerings_pb2.ListOfferingsRequest
) -> offerings_pb2.ListOfferingsResponse:
    query = _of_caller(offerings)
    if request.status:
        query = query.where(offerings.c.status == offerings_pb2.Offering.Status.Name(request.status))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, [offerings.c.offering_id]))).all()
    shown, token, previous = page.cut(found, lambda row: (row.offering_id,))
    return offerings_pb2.ListOfferingsResponse(
        offerings=[messages.offering(row) for row in shown], next_page_token=token, previous_page_token=previous
    )


async def get_investment(tx: AsyncConnection, request: offerings_pb2.GetInvestmentRequest) -> offerings_pb2.Investment:
    row = await rows.find(tx, investments, request.investment_id)
    if row is None or not current_principal().may_reach(row.party_id):
        raise InvestmentNotFound("No such investment.")
    return messages.investment(row)


async def list_investments(
    tx: AsyncConnection, request: offerings_pb2.ListInvestmentsRequest
) -> offerings_pb2.ListInvestmentsResponse:
    query = _of_caller(investments).where(within_reach(investments.c.party_id))
    if request.party_id:
        query = query.where(investments.c.party_id == request.party_id)
    if request.offering_id:
        query = query.where(investments.c.offering_id == request.offering_id)
    if request.status:
        query = query.where(investments.c.status == offerings_pb2.Investment.Status.Name(request.status))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, [investments.c.investment_id]))).all()
    shown, token, previous = page.cut(found, lambda row: (row.investment_id,))
    return offerings_pb2.ListInvestmentsResponse(
        investments=[messages.investment(row) for row in shown], next_page_token=token, previous_page_token=previous
    )


async def get_distribution(
    tx: AsyncConnection, request: distributions_pb2.GetDistributionRequest
) -> distributions_pb2.Distribution:
    row = await rows.find(tx, distributions, request.distribution_id)
    if row is None:
        raise DistributionNotFound("No such distribution.")
    return await store.describe_one(tx, row)


async def list_distributions(
    tx: AsyncConnection, request: distributions_pb2.ListDistributionsRequest
) -> distributions_pb2.ListDistributionsResponse:
    query = _of_caller(distributions)
    if request.offering_id:
        query = query.where(distributions.c.offering_id == request.offering_id)
    if request.status:
        query = query.where(distributions.c.status == distributions_pb2.Distribution.Status.Name(request.status))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, [distributions.c.distribution_id]))).all()
    shown, token, previous = page.cut(found, lambda row: (row.distribution_id,))
    return distributions_pb2.ListDistributionsResponse(
        distributions=await store.describe(tx, shown), next_page_token=token, previous_page_token=previous
    )


async def list_allocations(
    tx: AsyncConnection, request: distributions_pb2.ListAllocationsRequest
) -> distributions_pb2.ListAllocationsResponse:
    if await rows.find(tx, distributions, request.distribution_id) is None:
        raise DistributionNotFound("No such distribution.")
    query = sa.select(allocations).where(allocations.c.distribution_id == request.distribution_id)
    if request.status:
        query = query.where(allocations.c.status == distributions_pb2.Allocation.Status.Name(request.status))
    page = Page.of(request)
    key = [allocations.c.party_id, allocations.c.payee_type]
    found = (await tx.execute(page.of_query(query, key, descending=False))).all()
    shown, token, previous = page.cut(found, lambda row: (row.party_id, row.payee_type))
    return distributions_pb2.ListAllocationsResponse(
        allocations=[messages.allocation(row) for row in shown], next_page_token=token, previous_page_token=previous
    )


def _of_caller(table: sa.Table) -> sa.Select[tuple[object, ...]]:
    """Row level security says the same; said here too, the index on the organization serves the list."""
    return sa.select(table).where(table.c.org_id == current_principal().org_id)
