"""Investments: committed and withdrawn."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import InvestmentNotFound, PartyNotFound, check_currency
from services.distributions.actions import answer_investment
from services.distributions.commands.raises import refunds
from services.distributions.domain.investment import (
    CANCELLED_COUNTS,
    Investment,
    check_may_cancel,
    check_may_invest_again,
)
from services.distributions.domain.lots import SPONSOR
from services.distributions.domain.offering import Offering, check_takes_investments
from services.distributions.domain.refusals import InvestmentEndedByStaff, OfferingFull
from services.distributions.store.approvals import CANCEL_INVESTMENT, read_shown_minor
from services.distributions.store.counted_journals import check_counted
from services.distributions.store.investments import INVESTMENTS, count_counted, find_ended_by_staff, insert_investment
from services.distributions.store.offerings import OFFERINGS, lock_offering, save_offering


async def create_investment(
    tx: Tx, request: pb.CreateInvestmentRequest, unknown: PartyNotFound | None, now: datetime
) -> pb.Investment:
    """Commits an amount; `unknown` is the refusal of a party that is not there, asked for before the transaction."""
    if unknown is not None:
        raise unknown
    party_id = current_principal().choose_party(request.party_id)
    if party_id == SPONSOR:
        raise InvalidField(
            "The sponsor makes no investment: party_id must name an investor.",
            fields={"party_id": "must name an investor"},
        )
    offering = await lock_offering(tx, request.offering_id, "offering_id")
    check_takes_investments(offering, now)
    # An investor agrees to what was read: other terms, or another deadline, are not that.
    check_etag(request.terms_etag, offering.terms_etag, "terms_etag")
    check_currency(request.amount.currency_code, offering.currency, "amount.currency_code")
    await _check_may_commit(tx, offering.offering_id, party_id, now)
    amount_minor = request.amount.amount_minor
    remaining_minor = offering.maximum_minor - offering.committed_minor
    if amount_minor > remaining_minor:
        raise OfferingFull(
            "The investment would pass the offering's maximum.",
            fields={"amount.amount_minor": "is more than the offering still takes"},
            remaining_minor=remaining_minor,
            currency_code=offering.currency,
        )
    investment = Investment(
        investment_id=new_id("inv"),
        offering_id=offering.offering_id,
        party_id=party_id,
        currency=offering.currency,
        amount_minor=amount_minor,
        external_id=request.external_id if request.HasField("external_id") else None,
        metadata=dict(request.metadata),
        created_by=current_principal().person,
        created_at=now,
        updated_at=now,
    )
    await insert_investment(tx, investment)
    committed = replace(offering, committed_minor=offering.committed_minor + amount_minor)
    offering = await save_offering(tx, offering, committed, events.OfferingUpdated(), now)
    return answer_investment(offering, investment, now)


async def _check_may_commit(tx: Tx, offering_id: str, party_id: str, now: datetime) -> None:
    """Raises: TooManyInvestments, InvestmentEndedByStaff."""
    principal = current_principal()
    count = await count_counted(tx, offering_id, party_id, principal.person, now - CANCELLED_COUNTS)
    check_may_invest_again(count)
    # Else it would take the room of everybody else again in the same second.
    if principal.confined and (ended := await find_ended_by_staff(tx, offering_id, party_id)):
        message = "Staff ended an investment of the party in the offering: ask staff to commit it again."
        raise InvestmentEndedByStaff(message, investment_id=ended.investment_id)


async def cancel_investment(tx: Tx, request: pb.CancelInvestmentRequest, now: datetime) -> pb.Investment:
    """Withdraws a commitment: CANCELLING until all has gone back, CANCELLED then. A withdrawn one stays so."""
    offering, investment = await lock_reachable(tx, request.investment_id)
    check_etag(request.etag, investment.etag)
    if investment.is_withdrawn:
        return answer_investment(offering, investment, now)
    # An investor withdraws alone; what staff asks for is done when a second person approved it.
    is_alone = current_principal().confined
    check_may_cancel(offering, investment, now, alone=is_alone)
    if not is_alone:
        await check_counted(tx, offering.escrow_account_id)
    shown_minor = await read_shown_minor(tx, CANCEL_INVESTMENT, investment.investment_id)
    is_decided = investment.funded_minor <= shown_minor
    offering = await refunds.cancel_each(tx, offering, [investment], now, is_decided=is_decided)
    ids = [investment.investment_id]
    offering = await refunds.pay_due_refunds(tx, offering, now, investment_ids=ids)
    return answer_investment(offering, await INVESTMENTS.lock_known(tx, investment.investment_id), now)


async def lock_reachable(tx: Tx, investment_id: str) -> tuple[Offering, Investment]:
    """An investment that the caller may reach, and its offering, locked in that order. Raises: InvestmentNotFound."""
    found = await INVESTMENTS.find(tx, investment_id)
    if found is None or not current_principal().may_reach(found.party_id):
        raise InvestmentNotFound
    offering = await OFFERINGS.lock_known(tx, found.offering_id)
    return offering, await INVESTMENTS.lock_known(tx, investment_id)
