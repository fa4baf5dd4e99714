"""Reads of offerings and investments."""

from __future__ import annotations

from datetime import datetime

from realco.distributions.v1 import commitments_pb2
from realco.distributions.v1 import offerings_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.data.paging import one_of
from services.chassis.data.reach import within_reach
from services.chassis.data.reads import Reader
from services.chassis.data.seals import check_rows
from services.chassis.data.transaction import Tx
from services.chassis.values.refusals import InvestmentNotFound
from services.distributions.actions import answer_investment, answer_offering
from services.distributions.domain import investment as rules
from services.distributions.domain.refusals import OfferingNotFound
from services.distributions.domain.states import RAISE_ENDED, InvestmentStatus
from services.distributions.messages import to_investment, to_offering
from services.distributions.queries.lists import read_page_of
from services.distributions.store.investments import INVESTMENTS, list_investments_of, list_these_of
from services.distributions.store.offerings import OFFERINGS, find_offering_of, require_offering
from services.distributions.tables import investments, offerings


async def get_offering(reader: Reader, request: pb.GetOfferingRequest, now: datetime) -> pb.Offering:
    found = await OFFERINGS.find_told(reader, request.offering_id)
    if found is None:
        raise OfferingNotFound
    offering, version = found
    answer = answer_offering(offering, now)
    answer.aggregate_version = version
    return answer


async def list_offerings(tx: Tx, request: pb.ListOfferingsRequest, now: datetime) -> pb.ListOfferingsResponse:
    conditions = [
        *one_of(offerings.c.status, [pb.Offering.Status.Name(each) for each in request.status]),
        *one_of(offerings.c.sponsor_party_id, request.sponsor_party_id),
    ]
    page = await read_page_of(tx, request, OFFERINGS, *conditions)
    return pb.ListOfferingsResponse(
        offerings=OFFERINGS.show_all(tx, page.rows, to_offering),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def get_investment(reader: Reader, request: pb.GetInvestmentRequest, now: datetime) -> pb.Investment:
    """What may be done with it depends on its offering, as that was an instant later."""
    found = await INVESTMENTS.find_told(reader, request.investment_id)
    if found is None or not current_principal().may_reach(found[0].party_id):
        raise InvestmentNotFound
    investment, version = found
    answer = answer_investment(await require_offering(reader, investment.offering_id), investment, now)
    answer.aggregate_version = version
    return answer


async def list_investments(tx: Tx, request: pb.ListInvestmentsRequest, now: datetime) -> pb.ListInvestmentsResponse:
    """Raises: NotSealed: a service asks, and somebody altered one."""
    table = investments.c
    conditions = [
        within_reach(table.party_id),
        *one_of(table.status, [pb.Investment.Status.Name(each) for each in request.status]),
        *one_of(table.party_id, request.party_id),
        *one_of(table.offering_id, request.offering_id),
    ]
    page = await read_page_of(tx, request, INVESTMENTS, *conditions)
    if current_principal().service:  # which decides by it, and not a person who looks at it
        check_rows(tx, investments, page.rows)
    return pb.ListInvestmentsResponse(
        investments=INVESTMENTS.show_all(tx, page.rows, to_investment),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def list_open_offerings(
    tx: Tx, request: commitments_pb2.ListOpenOfferingsRequest, now: datetime
) -> commitments_pb2.ListOpenOfferingsResponse:
    """Raises: NotSealed."""
    offering = await find_offering_of(tx, request.escrow_account_id)
    if offering is None:
        return commitments_pb2.ListOpenOfferingsResponse()
    if offering.status not in RAISE_ENDED:
        return commitments_pb2.ListOpenOfferingsResponse(offering_ids=[offering.offering_id])
    found = await list_investments_of(tx, offering.offering_id)
    is_paying = any(each.status is InvestmentStatus.ACTIVE for each in found)
    paying_offering_ids = [offering.offering_id] if is_paying else []
    return commitments_pb2.ListOpenOfferingsResponse(paying_offering_ids=paying_offering_ids)


async def list_committed_parties(
    tx: Tx, request: commitments_pb2.ListCommittedPartiesRequest, now: datetime
) -> commitments_pb2.ListCommittedPartiesResponse:
    """Raises: NotSealed."""
    offering = await find_offering_of(tx, request.escrow_account_id)
    found = [] if offering is None else await list_investments_of(tx, offering.offering_id)
    return commitments_pb2.ListCommittedPartiesResponse(party_ids=sorted(rules.list_committed_parties(found)))


async def get_commitments(
    tx: Tx, request: commitments_pb2.GetCommitmentsRequest, now: datetime
) -> commitments_pb2.Commitments:
    """Raises: NotSealed."""
    offering = await find_offering_of(tx, request.escrow_account_id)
    if offering is None:
        return commitments_pb2.Commitments()
    found = await list_these_of(tx, offering.offering_id, request.investment_ids)
    return commitments_pb2.Commitments(
        offering_id=offering.offering_id,
        commitments=[
            commitments_pb2.Commitments.Commitment(investment_id=each.investment_id, party_id=each.party_id)
            for each in found
        ],
    )
