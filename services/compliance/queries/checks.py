"""Reads of checks, and of what they say of parties."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import sqlalchemy as sa
from realco.compliance.v1 import clearances_pb2
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1.parties_pb2 import Party

from services.chassis.calls.wire import to_explanation
from services.chassis.data.paging import one_of, read_list
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Reader, fetch_rows
from services.chassis.data.seals import keep_readable, keep_sealed
from services.chassis.data.transaction import Tx
from services.compliance import actions, messages
from services.compliance.domain import clearance
from services.compliance.domain.refusals import ComplianceCheckNotFound
from services.compliance.store import checks as store
from services.compliance.tables import compliance_checks, parties


async def get_compliance_check(tx: Tx, request: pb.GetComplianceCheckRequest, now: datetime) -> pb.ComplianceCheck:
    """Raises ComplianceCheckNotFound."""
    check = await store.find_check(tx, request.compliance_check_id)
    if check is None:
        raise ComplianceCheckNotFound()
    return await actions.answer_check(tx, check, now)


async def list_compliance_checks(
    tx: Tx, request: pb.ListComplianceChecksRequest, now: datetime
) -> pb.ListComplianceChecksResponse:
    c = compliance_checks.c
    statement = store.CHECKS.select().where(
        *one_of(c.compliance_check_id, request.ids),
        *one_of(c.party_id, request.party_id),
        *one_of(c.check_type, [pb.ComplianceCheck.Type.Name(each) for each in request.type]),
        *one_of(c.status, [pb.ComplianceCheck.Status.Name(each) for each in request.status]),
    )
    rows, token, previous = await read_list(tx, request, statement, c.created_at, c.compliance_check_id)
    # On what others found a person decides, so what was written past the service is left out.
    checks = keep_readable(rows, partial(store.CHECKS.read_sealed, tx))
    return pb.ListComplianceChecksResponse(
        compliance_checks=map(messages.to_compliance_check, checks),
        next_page_token=token,
        previous_page_token=previous,
    )


async def batch_get_clearances(
    reader: Reader, request: clearances_pb2.BatchGetClearancesRequest, now: datetime
) -> clearances_pb2.BatchGetClearancesResponse:
    rows = await fetch_rows(reader, _KNOWN, party_ids=list(request.party_ids))
    known = {row.party_id for row in rows}
    kinds: dict[str, str] = {row.party_id: row.kind for row in keep_sealed(reader, parties, rows)}
    checks = await store.list_latest_checks(reader, known)
    clearances = []
    for party_id in request.party_ids:
        missing = clearance.UNKNOWN
        if party_id in known:
            missing = clearance.list_missing(clearance.checks_at(checks.get(party_id, {}), now))
        clearances.append(
            clearances_pb2.BatchGetClearancesResponse.Clearance(
                party_id=party_id,
                cleared=not missing,
                missing=map(to_explanation, missing),
                known=party_id in known,
                kind=kinds.get(party_id, Party.Kind.Name(Party.KIND_UNSPECIFIED)),
            )
        )
    return clearances_pb2.BatchGetClearancesResponse(clearances=clearances)


_KNOWN = Read(
    sa.select(parties).where(
        is_mine(parties), parties.c.party_id == sa.any_(sa.bindparam("party_ids", type_=sa.ARRAY(sa.Text)))
    )
)
