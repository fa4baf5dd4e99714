"""Compliance's reads: SQL to protobuf, past the domain."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from realco.compliance.v1 import compliance_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.paging import Page
from services.compliance import messages, store
from services.compliance.domain import clearance
from services.compliance.domain.errors import ComplianceCheckNotFound, InvestorNotFound
from services.compliance.tables import compliance_checks, investors


async def get_investor(tx: AsyncConnection, party_id: str, now: datetime) -> pb.Investor:
    row = (await tx.execute(sa.select(investors).where(investors.c.party_id == party_id))).one_or_none()
    if row is None:
        raise InvestorNotFound("No such profile.")
    checks = await store.latest_checks(tx, [party_id])
    return messages.investor(row, checks.get(party_id, {}), now)


async def get_clearances(
    tx: AsyncConnection, request: pb.BatchGetClearancesRequest, now: datetime
) -> pb.BatchGetClearancesResponse:
    known = set(await tx.scalars(sa.select(investors.c.party_id).where(investors.c.party_id.in_(request.party_ids))))
    checks = await store.latest_checks(tx, list(known))
    clearances = []
    for party_id in request.party_ids:
        missing = clearance.missing(checks.get(party_id, {}), now) if party_id in known else ("there is no profile",)
        clearances.append(
            pb.BatchGetClearancesResponse.Clearance(party_id=party_id, cleared=not missing, missing=missing)
        )
    return pb.BatchGetClearancesResponse(clearances=clearances)


async def get_check(tx: AsyncConnection, check_id: str) -> pb.ComplianceCheck:
    statement = sa.select(compliance_checks).where(compliance_checks.c.compliance_check_id == check_id)
    row = (await tx.execute(statement)).one_or_none()
    if row is None:
        raise ComplianceCheckNotFound("No such check.")
    return messages.check(row)


async def list_checks(tx: AsyncConnection, request: pb.ListComplianceChecksRequest) -> pb.ListComplianceChecksResponse:
    c = compliance_checks.c
    statement = sa.select(compliance_checks)
    if request.party_id:
        statement = statement.where(c.party_id == request.party_id)
    if request.type:
        statement = statement.where(c.check_type == pb.ComplianceCheck.Type.Name(request.type))
    if request.status:
        statement = statement.where(c.status == pb.ComplianceCheck.Status.Name(request.status))
    page = Page.of(request)
    rows = (await tx.execute(page.of_query(statement, [c.created_at, c.compliance_check_id]))).all()
    rows, token, previous = page.cut(rows, lambda row: (row.created_at, row.compliance_check_id))
    return pb.ListComplianceChecksResponse(
        compliance_checks=map(messages.check, rows), next_page_token=token, previous_page_token=previous
    )


async def list_limits(tx: AsyncConnection) -> pb.ListTransactionLimitsResponse:
    rows = await store.limits_in_force(tx)
    return pb.ListTransactionLimitsResponse(transaction_limits=map(messages.limit, rows))
