"""Offerings: opened and changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as pb
from realco.escrow.v1 import escrow_accounts_pb2

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_enum, from_timestamp
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.values.accounts import check_takes_money
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import EscrowAccountNotFound, NameFixed, PartyNotFound, check_currency
from services.distributions.actions import answer_offering
from services.distributions.domain.closing import find_earliest_early_close
from services.distributions.domain.offering import (
    Exemption,
    Offering,
    ReceivablesPolicy,
    check_deadline_to_come,
    check_open,
)
from services.distributions.domain.refusals import EscrowAccountInUse, SponsorMismatch, TermsFixed, TermsInvalid
from services.distributions.domain.terms import Terms
from services.distributions.messages import read_terms
from services.distributions.store.approvals import APPROVAL_WRITER, outdate_closings
from services.distributions.store.investments import has_investments
from services.distributions.store.offerings import insert_offering, lock_offering, save_offering

# A date further away than this is a slip of the pen.
PLANS_END: Final = timedelta(days=3653)
# What a person does who changes the deadline or the terms (`note_stop`).
_CHANGES_TERMS: Final = "CHANGE_OFFERING_TERMS"
_ALWAYS_EDITABLE: Final = frozenset({"external_id", "metadata"})


@dataclass(frozen=True, slots=True)
class OfferingFacts:
    """What others say of an offering's escrow account and its sponsor, asked before the transaction."""

    account: escrow_accounts_pb2.EscrowAccount | None  # None if there is no such account
    unknown: PartyNotFound | None  # the refusal of a sponsor that is not there


async def create_offering(
    tx: Tx, request: pb.CreateOfferingRequest, facts: OfferingFacts, now: datetime
) -> pb.Offering:
    """Opens it on its escrow account."""
    open_at = _read_moment(request.open_time, "open_time", now) if request.HasField("open_time") else now
    deadline_at = _read_moment(request.deadline_time, "deadline_time", now)
    target = request.target_amount
    maximum = request.maximum_amount if request.HasField("maximum_amount") else target
    _check_amounts(target.currency_code, target.amount_minor, maximum.currency_code, maximum.amount_minor)
    if deadline_at <= open_at:
        raise InvalidField(
            "The deadline is too early: it must be after open_time.",
            fields={"deadline_time": "must be after open_time"},
        )
    _check_time_to_withdraw(max(open_at, now), deadline_at)
    if facts.unknown is not None:
        raise facts.unknown
    _check_account(facts.account, target.currency_code, request.sponsor_party_id)
    offering = Offering(
        offering_id=new_id("off"),
        display_name=request.display_name,
        sponsor_party_id=request.sponsor_party_id,
        escrow_account_id=request.escrow_account_id,
        exemption=Exemption(pb.Offering.Exemption.Name(request.exemption)),
        currency=target.currency_code,
        target_minor=target.amount_minor,
        maximum_minor=maximum.amount_minor,
        open_at=open_at,
        deadline_at=deadline_at,
        terms=_read_terms(request.terms),
        receivables_policy=_read_policy(request) if request.HasField("receivables_policy") else ReceivablesPolicy.BLOCK,
        external_id=request.external_id if request.HasField("external_id") else None,
        metadata=dict(request.metadata),
        created_by=current_principal().person,
        makers=frozenset({current_principal().person}),
        created_at=now,
        updated_at=now,
    )
    if not await insert_offering(tx, offering):
        fields = {"escrow_account_id": "is another offering's"}
        message = "An offering has an escrow account of its own."
        raise EscrowAccountInUse(message, fields=fields, escrow_account_id=request.escrow_account_id)
    return answer_offering(offering, now)


def _read_moment(timestamp: Timestamp, field: str, now: datetime) -> datetime:
    """A time somebody can mean: in the calendar, and not beyond every plan."""
    moment = from_timestamp(timestamp, field)
    if abs(moment - now) > PLANS_END:
        raise InvalidField(
            f"The {field} is too far away: it must lie within ten years of now.",
            fields={field: "must lie within ten years of now"},
        )
    return moment


def _read_terms(message: pb.WaterfallTerms) -> Terms:
    """The terms of a request, which names their fields from itself on. Raises: TermsInvalid."""
    try:
        return read_terms(message)
    except TermsInvalid as refusal:
        fields = {f"terms.{field}": why for field, why in refusal.fields.items()}
        raise TermsInvalid(refusal.message, fields=fields) from None


def _check_amounts(currency: str, target_minor: int, maximum_currency: str, maximum_minor: int) -> None:
    if maximum_currency != currency:
        raise InvalidField(
            "The amounts are in two currencies: maximum_amount must be in that of target_amount.",
            fields={"maximum_amount.currency_code": "must be that of target_amount"},
        )
    if maximum_minor < target_minor:
        raise InvalidField(
            "The maximum is below the target: it must be as much or more.",
            fields={"maximum_amount": "must not be below target_amount"},
        )


def _check_account(account: escrow_accounts_pb2.EscrowAccount | None, currency: str, sponsor_party_id: str) -> None:
    if account is None:
        raise EscrowAccountNotFound("escrow_account_id")
    # Escrow tells by it who gains: nobody who acts for the sponsor of the one decides about money of the other.
    if account.sponsor_party_id != sponsor_party_id:
        raise SponsorMismatch(
            "The escrow account is another sponsor's.",
            fields={"sponsor_party_id": "is not the sponsor of the escrow account"},
            escrow_account_id=account.escrow_account_id,
            sponsor_party_id=account.sponsor_party_id,
        )
    status = from_enum(escrow_accounts_pb2.EscrowAccount.Status, account.status)
    check_takes_money(account.escrow_account_id, status, "escrow_account_id")
    check_currency(currency, account.currency_code, "target_amount.currency_code")


async def update_offering(tx: Tx, request: pb.UpdateOfferingRequest, now: datetime) -> pb.Offering:
    """Changes the fields that the request's `update_mask` names. Raises TooManyStops, and what the rules say."""
    offering = await lock_offering(tx, request.offering_id)
    check_etag(request.etag, offering.etag)
    named = set(request.update_mask.paths)
    if named - _ALWAYS_EDITABLE:
        check_open(offering, "Only an open offering can be changed.")
    changed = offering
    if "display_name" in named and request.display_name != offering.display_name:
        if await has_investments(tx, offering.offering_id):
            raise NameFixed("Somebody has invested in it under this name: it stays.")
        changed = replace(changed, display_name=request.display_name)
    if "deadline_time" in named:
        changed = _change_deadline(changed, request, now)
    if "terms" in named:
        if await has_investments(tx, offering.offering_id):
            raise TermsFixed("Somebody has invested on these terms; they cannot change.")
        changed = replace(changed, terms=_read_terms(request.terms))
    if "external_id" in named:
        changed = replace(changed, external_id=request.external_id if request.HasField("external_id") else None)
    if "metadata" in named:
        changed = replace(changed, metadata=dict(request.metadata))
    if changed == offering:
        return answer_offering(offering, now)
    await APPROVAL_WRITER.note_edit(tx, offering.offering_id, offering.etag, now)
    # Investors agree to what they read: whoever changes it over and over lets nobody commit.
    if changed.terms_etag != offering.terms_etag:
        await note_stop(tx, _CHANGES_TERMS, offering.offering_id, now)
    if (changed.deadline_at, changed.terms) != (offering.deadline_at, offering.terms):
        person = current_principal().person
        changed = replace(changed, makers=changed.makers | {person})
        await outdate_closings(tx, offering.offering_id, now)
    return answer_offering(await save_offering(tx, offering, changed, events.OfferingUpdated(), now), now)


async def change_receivables_policy(tx: Tx, request: pb.ChangeReceivablesPolicyRequest, now: datetime) -> pb.Offering:
    offering = await lock_offering(tx, request.offering_id)
    check_etag(request.etag, offering.etag)
    changed = replace(offering, receivables_policy=_read_policy(request))
    return answer_offering(await save_offering(tx, offering, changed, events.OfferingUpdated(), now), now)


def _read_policy(request: pb.CreateOfferingRequest | pb.ChangeReceivablesPolicyRequest) -> ReceivablesPolicy:
    return ReceivablesPolicy(pb.Offering.ReceivablesPolicy.Name(request.receivables_policy))


def _check_time_to_withdraw(began_at: datetime, deadline_at: datetime) -> None:
    """Whoever enters an offering says when it was disclosed. Nobody can invest before it is entered, though, and from
    then on investors have as long to withdraw as the notice of an early close gives them. Source: 17 CFR 227.304(a),
    kept under another exemption, too.
    """
    earliest = find_earliest_early_close(began_at.date())
    if deadline_at.date() < earliest:
        raise InvalidField(
            "The deadline is too early: investors need time to withdraw.",
            fields={
                "deadline_time": f"must not be earlier than {earliest}: investors have five business days at least"
            },
        )


def _change_deadline(offering: Offering, request: pb.UpdateOfferingRequest, now: datetime) -> Offering:
    deadline_at = _read_moment(request.deadline_time, "deadline_time", now)
    if deadline_at == offering.deadline_at:
        return offering
    check_deadline_to_come(offering, now)
    if deadline_at < now or deadline_at <= offering.open_at:
        raise InvalidField(
            "The deadline is too early: it must be after open_time, and not before now.",
            fields={"deadline_time": "must be after open_time, and not before now"},
        )
    _check_notice(offering, deadline_at, now)
    if deadline_at < offering.deadline_at:
        return replace(offering, deadline_at=deadline_at, early_close_noticed_on=now.date())
    return replace(offering, deadline_at=deadline_at)


def _check_notice(offering: Offering, deadline_at: datetime, now: datetime) -> None:
    """Refuses another deadline on short notice: until 48 hours before it investors may withdraw. One of tomorrow would
    take that right away today, whether it comes earlier than the one before, or later once that right had ended: then
    whoever stays does so for longer than agreed. Source: 17 CFR 227.304(a) and (b), which is kept towards whoever has
    committed under another exemption, too.
    """
    earliest, is_owed = find_earliest_early_close(now.date()), offering.committed_minor > 0
    if (is_owed or offering.exemption is Exemption.REG_CF) and deadline_at.date() < earliest:
        raise InvalidField(
            "Another deadline needs five business days' notice.",
            fields={"deadline_time": f"must not be earlier than {earliest}: investors have five business days' notice"},
        )
