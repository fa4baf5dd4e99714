"""Compliance's reads: SQL to protobuf, past the domain."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import parties_pb2
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.access import list_allowed_actions
from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_explanation, to_timestamp
from services.chassis.data.paging import Page
from services.chassis.data.reach import within_reach
from services.chassis.values.refusals import PartyNotFound
from services.compliance import messages, store
from services.compliance.domain import clearance
from services.compliance.domain.refusals import ComplianceCheckNotFound
from services.compliance.tables import compliance_checks, parties, party_persons

_PACKAGE = pb.DESCRIPTOR.package


async def get_party(tx: AsyncConnection, request: parties_pb2.GetPartyRequest, now: datetime) -> parties_pb2.Party:
    """Raises PartyNotFound."""
    return await describe_party(tx, await _read_party(tx, request.party_id), now)


async def _read_party(tx: AsyncConnection, party_id: str, field: str | None = None) -> Any:
    """Raises PartyNotFound, which names the field of a request that named it."""
    row = (await tx.execute(sa.select(parties).where(parties.c.party_id == party_id))).one_or_none()
    if row is None:
        raise PartyNotFound(field)
    return row


async def describe_party(tx: AsyncConnection, row: Any, now: datetime) -> parties_pb2.Party:
    """The party of a row, for the caller."""
    checks = await store.latest_checks(tx, [row.party_id])
    actions = list_allowed_actions(
        _PACKAGE,
        ("update", "PartiesService/UpdateParty", True),
        ("add", "PartiesService/AddPartyPerson", True),
        ("remove", "PartiesService/RemovePartyPerson", True),
    )
    return messages.to_party(row, checks.get(row.party_id, {}), now, actions)


async def describe_state(tx: AsyncConnection, party: parties_pb2.Party) -> parties_pb2.PartyState:
    """What events tell of the party."""
    return messages.to_state(party, [row.person for row in await store.list_persons(tx, party.party_id)])


async def list_parties(
    tx: AsyncConnection, request: parties_pb2.ListPartiesRequest, now: datetime
) -> parties_pb2.ListPartiesResponse:
    c = parties.c
    statement = sa.select(parties).where(within_reach(c.party_id))
    if request.ids:
        statement = statement.where(c.party_id.in_(request.ids))
    if request.external_id:
        statement = statement.where(c.external_id == request.external_id)
    if request.person:
        acting = sa.select(party_persons.c.party_id).where(party_persons.c.person == request.person)
        statement = statement.where(c.party_id.in_(acting))
    if request.HasField("cleared"):
        cleared = c.party_id.in_(_cleared(now))
        statement = statement.where(cleared if request.cleared else ~cleared)
    if request.legal_name_prefix:
        prefix = sa.func.lower(request.legal_name_prefix)
        statement = statement.where(sa.func.starts_with(sa.func.lower(c.legal_name), prefix))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(statement, [c.created_at, c.party_id]))).all()
    rows, token, previous = page.cut(found, lambda row: (row.created_at, row.party_id))
    checks = await store.latest_checks(tx, [row.party_id for row in rows])
    return parties_pb2.ListPartiesResponse(
        parties=[messages.to_party(row, checks.get(row.party_id, {}), now) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
    )


def _cleared(now: datetime) -> sa.Select[Any]:
    """The parties of whom the latest check of each required type is PASSED and has not expired."""
    latest = store.select_latest_checks().subquery()
    passed = sa.and_(latest.c.status == "PASSED", latest.c.expires_at > now)
    return (
        sa.select(latest.c.party_id)
        .where(passed)
        .group_by(latest.c.party_id)
        .having(sa.func.count() == len(clearance.REQUIRED_CHECKS))
    )


async def list_party_persons(
    tx: AsyncConnection, request: parties_pb2.ListPartyPersonsRequest, now: datetime
) -> parties_pb2.ListPartyPersonsResponse:
    """Raises PartyNotFound."""
    await _read_party(tx, request.party_id)
    persons = await store.list_persons(tx, request.party_id)
    return parties_pb2.ListPartyPersonsResponse(persons=map(messages.to_person, persons))


async def list_parties_of_person(
    tx: AsyncConnection, request: parties_pb2.ListPartiesOfPersonRequest, now: datetime
) -> parties_pb2.ListPartiesOfPersonResponse:
    found = await store.list_parties_of(tx, current_principal().org_id, request.person)
    return parties_pb2.ListPartiesOfPersonResponse(party_ids=found)


async def get_me(tx: AsyncConnection, request: parties_pb2.GetMeRequest, now: datetime) -> parties_pb2.Me:
    principal = current_principal()
    mine = parties.c.party_id.in_(sorted(principal.parties))
    rows = (await tx.execute(sa.select(parties).where(mine).order_by(parties.c.party_id))).all()
    checks = await store.latest_checks(tx, [row.party_id for row in rows])
    limits = await store.limits_in_force(tx)
    return parties_pb2.Me(
        person=principal.subject,
        roles=[principal.role.upper()],
        org_id=principal.org_id,
        parties=[
            parties_pb2.Me.ActingFor(
                party_id=row.party_id,
                legal_name=row.legal_name,
                kind=row.kind,
                cleared=not clearance.list_missing(checks.get(row.party_id, {}), now),
            )
            for row in rows
        ],
        transaction_limits=[messages.to_limit(row, principal.org_id) for row in limits],
        currency_codes=sorted({row.currency for row in limits}),
        business_time=to_timestamp(now),
    )


async def get_clearances(
    tx: AsyncConnection, request: pb.BatchGetClearancesRequest, now: datetime
) -> pb.BatchGetClearancesResponse:
    known = set(await tx.scalars(sa.select(parties.c.party_id).where(parties.c.party_id.in_(request.party_ids))))
    checks = await store.latest_checks(tx, list(known))
    clearances = []
    for party_id in request.party_ids:
        missing = clearance.UNKNOWN
        if party_id in known:
            missing = clearance.list_missing(checks.get(party_id, {}), now)
        clearances.append(
            pb.BatchGetClearancesResponse.Clearance(
                party_id=party_id, cleared=not missing, missing=map(to_explanation, missing)
            )
        )
    return pb.BatchGetClearancesResponse(clearances=clearances)


async def get_check(tx: AsyncConnection, request: pb.GetComplianceCheckRequest, now: datetime) -> pb.ComplianceCheck:
    """Raises ComplianceCheckNotFound."""
    c = compliance_checks.c
    writer = sa.func.coalesce(parties.c.written_by, "").label("written_by")
    joined = compliance_checks.outerjoin(
        parties, sa.and_(parties.c.org_id == c.org_id, parties.c.party_id == c.party_id)
    )
    statement = sa.select(compliance_checks, writer).select_from(joined)
    row = (await tx.execute(statement.where(c.compliance_check_id == request.compliance_check_id))).one_or_none()
    if row is None:
        raise ComplianceCheckNotFound()
    return describe_check(row, row.written_by)


def describe_check(row: Any, written_by: str) -> pb.ComplianceCheck:
    """The check of a row, for the caller.

    Args:
        written_by: Who wrote the party's facts.
    """
    may_review = clearance.may_review(row.status, written_by, current_principal().person)
    review = ("review", "ComplianceService/ReviewComplianceCheck", may_review)
    return messages.to_check(row, list_allowed_actions(_PACKAGE, review))


async def list_checks(
    tx: AsyncConnection, request: pb.ListComplianceChecksRequest, now: datetime
) -> pb.ListComplianceChecksResponse:
    c = compliance_checks.c
    statement = sa.select(compliance_checks)
    if request.party_id:
        await _read_party(tx, request.party_id, "party_id")
        statement = statement.where(c.party_id == request.party_id)
    if request.type:
        statement = statement.where(c.check_type == pb.ComplianceCheck.Type.Name(request.type))
    if request.status:
        statement = statement.where(c.status == pb.ComplianceCheck.Status.Name(request.status))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(statement, [c.created_at, c.compliance_check_id]))).all()
    rows, token, previous = page.cut(found, lambda row: (row.created_at, row.compliance_check_id))
    return pb.ListComplianceChecksResponse(
        compliance_checks=map(messages.to_check, rows), next_page_token=token, previous_page_token=previous
    )


async def list_limits(
    tx: AsyncConnection, request: pb.ListTransactionLimitsRequest, now: datetime
) -> pb.ListTransactionLimitsResponse:
    org_id = current_principal().org_id
    rows = await store.limits_in_force(tx)
    return pb.ListTransactionLimitsResponse(transaction_limits=[messages.to_limit(row, org_id) for row in rows])
