"""Values as the contract's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from operator import attrgetter
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from realco.compliance.v1 import notary_pb2
from realco.distributions.v1 import distributions_pb2, offerings_pb2, payout_orders_pb2
from realco.type.v1 import money_pb2

from services.chassis.calls.wire import (
    from_enum,
    to_date,
    to_explanation,
    to_failure,
    to_money,
    to_optional_failure,
    to_optional_timestamp,
    to_timestamp,
)
from services.chassis.spelling.json_writer import writer_of
from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money
from services.chassis.values.movement import Movement, MovementLine
from services.distributions.domain.closing import Gate
from services.distributions.domain.distribution import Allocation, Distribution, PayeeType, TierTotal
from services.distributions.domain.investment import Investment
from services.distributions.domain.lines import explain_line
from services.distributions.domain.lots import SPONSOR
from services.distributions.domain.offering import Offering
from services.distributions.domain.payout import DESCRIPTIONS, Payout
from services.distributions.domain.refunds import GivenBack
from services.distributions.domain.sagas import Mandate
from services.distributions.domain.states import UNTAKEN
from services.distributions.domain.terms import Terms, build_terms, list_tiers
from services.distributions.domain.waterfall import Line


def read_terms(message: offerings_pb2.WaterfallTerms) -> Terms:
    """The agreed terms; a parameter that was not sent has its default. Raises: TermsInvalid."""
    return build_terms([_read_tier(tier) for tier in message.tiers])


def _read_tier(tier: offerings_pb2.WaterfallTerms.Tier) -> tuple[str, Mapping[str, str]]:
    name = tier.WhichOneof("kind") or ""
    return name.upper(), {field.name: value for field, value in getattr(tier, name).ListFields()}


def to_waterfall_terms(terms: Terms) -> offerings_pb2.WaterfallTerms:
    message = offerings_pb2.WaterfallTerms()
    for kind, parameters in list_tiers(terms):
        chosen = getattr(message.tiers.add(), kind.lower())
        chosen.SetInParent()
        for name, text in parameters.items():
            setattr(chosen, name, text)
    return message


def to_offering(offering: Offering) -> offerings_pb2.Offering:
    money, is_ended = _money_in(offering.currency), offering.status in UNTAKEN
    return offerings_pb2.Offering(
        offering_id=offering.offering_id,
        display_name=offering.display_name,
        sponsor_party_id=offering.sponsor_party_id,
        escrow_account_id=offering.escrow_account_id,
        exemption=offering.exemption.value,
        target_amount=money(offering.target_minor),
        maximum_amount=money(offering.maximum_minor),
        open_time=to_timestamp(offering.open_at),
        deadline_time=to_timestamp(offering.deadline_at),
        terms=to_waterfall_terms(offering.terms),
        receivables_policy=offering.receivables_policy.value,
        status=offering.status.value,
        committed_amount=money(offering.committed_minor),
        funded_amount=money(offering.funded_minor),
        incoming_amount=money(offering.incoming_minor) if is_ended else None,
        refundable_amount=money(offering.funded_minor) if is_ended else None,
        closing_date=None if offering.closing_date is None else to_date(offering.closing_date),
        closing_failure=to_optional_failure(offering.closing_failure),
        proceeds_transaction_id=offering.proceeds_transaction_id,
        proceeds_failure=to_optional_failure(offering.proceeds_failure),
        created_by=offering.created_by,
        create_time=to_timestamp(offering.created_at),
        update_time=to_timestamp(offering.updated_at),
        external_id=offering.external_id,
        metadata=offering.metadata,
        etag=offering.etag,
        terms_etag=offering.terms_etag,
    )


def to_investment(investment: Investment) -> offerings_pb2.Investment:
    money = _money_in(investment.currency)
    start = investment.accrual_start_date
    return offerings_pb2.Investment(
        investment_id=investment.investment_id,
        offering_id=investment.offering_id,
        party_id=investment.party_id,
        amount=money(investment.amount_minor),
        funded_amount=money(investment.funded_minor),
        cleared_amount=money(investment.cleared_minor),
        incoming_amount=money(investment.incoming_minor),
        unapplied_amount=money(investment.unapplied_minor),
        receivable_amount=money(max(0, investment.receivable_minor)),
        refundable_amount=money(investment.refundable_minor),
        clear_time=to_optional_timestamp(investment.clears_at),
        unreturned_capital=money(investment.unreturned_minor),
        distributed_amount=money(investment.distributed_minor),
        accrual_start_date=None if start is None else to_date(start),
        status=investment.status.value,
        refund_failure=to_optional_failure(investment.refund_failure),
        earlier_refund_failures=map(to_failure, investment.earlier_refund_failures),
        create_time=to_timestamp(investment.created_at),
        update_time=to_timestamp(investment.updated_at),
        external_id=investment.external_id,
        metadata=investment.metadata,
        created_by=investment.created_by,
        etag=investment.etag,
    )


def to_closing_gates(
    offering_id: str, found: Sequence[Gate], left_out: Sequence[Explanation]
) -> offerings_pb2.ClosingGates:
    return offerings_pb2.ClosingGates(
        offering_id=offering_id,
        gates=[
            offerings_pb2.ClosingGates.Gate(
                name=gate.name.value, passed=gate.passed, explanation=to_explanation(gate.explanation)
            )
            for gate in found
        ],
        all_passed=all(gate.passed for gate in found),
        left_out=map(to_explanation, left_out),
    )


def to_distribution(distribution: Distribution) -> distributions_pb2.Distribution:
    money = _money_in(distribution.currency)
    declared = distribution.declared_at
    return distributions_pb2.Distribution(
        distribution_id=distribution.distribution_id,
        offering_id=distribution.offering_id,
        type=distribution.type,
        amount=money(distribution.amount_minor),
        distribution_date=to_date(distribution.distribution_date),
        description=distribution.description,
        status=distribution.status.value,
        tier_totals=[_to_tier_total(place, tier, money) for place, tier in enumerate(distribution.tiers, 1)],
        content_hash=distribution.content_hash,
        allocation_count=distribution.allocation_count,
        paid_amount=money(distribution.paid_minor),
        failure=to_optional_failure(distribution.failure),
        created_by=distribution.created_by,
        calculated_by=distribution.calculated_by,
        submitted_by=distribution.submitted_by,
        approved_by=distribution.approved_by,
        declare_time=to_optional_timestamp(declared),
        expire_time=to_optional_timestamp(distribution.expires_at),
        create_time=to_timestamp(distribution.created_at),
        update_time=to_timestamp(distribution.updated_at),
        external_id=distribution.external_id,
        metadata=distribution.metadata,
        etag=distribution.etag,
    )


def _to_tier_total(
    place: int, tier: TierTotal, money: Callable[[int], money_pb2.Money]
) -> distributions_pb2.Distribution.TierTotal:
    return distributions_pb2.Distribution.TierTotal(
        tier=place,
        kind=tier.kind,
        investors_amount=money(tier.investors_minor),
        sponsor_amount=money(tier.sponsor_minor),
        explanation=to_explanation(tier.explanation),
    )


def to_allocation(allocation: Allocation) -> distributions_pb2.Allocation:
    """As a caller reads it."""
    answer = to_told_allocation(allocation)
    for told, line in zip(answer.lines, allocation.lines, strict=True):
        told.explanation.CopyFrom(to_explanation(explain_line(line, allocation.currency)))
    return answer


def to_told_allocation(allocation: Allocation) -> distributions_pb2.Allocation:
    """As an event has it: without the reason of each line. A large distribution has thousands of lines."""
    money = _money_in(allocation.currency)
    return distributions_pb2.Allocation(
        allocation_id=allocation.allocation_id,
        distribution_id=allocation.distribution_id,
        offering_id=allocation.offering_id,
        party_id=allocation.party_id,
        payee_type=allocation.payee_type.value,
        amount=money(allocation.amount_minor),
        set_off_amount=money(allocation.set_off_minor),
        lines=[
            distributions_pb2.AllocationLine(
                tier=line.tier + 1,  # kept from 0
                kind=line.kind,
                amount=money(line.amount_minor),
            )
            for line in allocation.lines
        ],
        status=allocation.status.value,
        transaction_id=allocation.transaction_id,
        attempts=allocation.attempts,
        failure=to_optional_failure(allocation.failure),
        create_time=to_timestamp(allocation.created_at),
        update_time=to_timestamp(allocation.updated_at),
        etag=allocation.etag,
    )


def to_distribution_content(
    offering: Offering, distribution_id: str, amount: Money, on: date, lines: Iterable[Line]
) -> dict[str, Any]:
    """What a second person decides on, a `DistributionContent` in JSON; the order of `lines` does not matter."""
    content = distributions_pb2.DistributionContent(
        distribution=distributions_pb2.Distribution(
            distribution_id=distribution_id, amount=to_money(amount), distribution_date=to_date(on)
        ),
        terms=to_waterfall_terms(offering.terms),
        receivables_policy=offering.receivables_policy.value,
    )
    spelled = writer_of(content.DESCRIPTOR, sparse=True)(content)
    # Without messages: a large distribution has thousands of them.
    spelled["allocations"] = [
        _spell_allocation(line, offering.terms, offering.sponsor_party_id, amount.currency)
        for line in sorted(lines, key=lambda line: line.party_id)
    ]
    return spelled


def _spell_allocation(line: Line, terms: Terms, sponsor_party_id: str, currency: str) -> dict[str, Any]:
    is_sponsor = line.party_id == SPONSOR
    return {
        "partyId": sponsor_party_id if is_sponsor else line.party_id,
        "payeeType": (PayeeType.SPONSOR if is_sponsor else PayeeType.INVESTOR).value,
        "amount": {"currencyCode": currency, "amountMinor": str(line.total)},
        "lines": [
            {"tier": place, "kind": tier.kind, "amount": {"currencyCode": currency, "amountMinor": str(minor)}}
            for place, (tier, minor) in enumerate(zip(terms.tiers, line.amounts, strict=True), 1)
            if minor
        ],
    }


def _money_in(currency: str) -> Callable[[int], money_pb2.Money]:
    return lambda amount_minor: to_money(Money(amount_minor, currency))


def read_movement(message: notary_pb2.Movement) -> Movement:
    """All that moves by one decision, in whatever order its lines are."""
    lines = (MovementLine(line.party_id, Money.from_proto(line.amount)) for line in message.lines)
    return Movement(
        from_enum(notary_pb2.Movement.Kind, message.kind),
        message.resource_id,
        message.content_hash,
        message.escrow_account_id,
        tuple(sorted(lines, key=attrgetter("party_id"))),
    )


def _release_of(investment: Investment) -> money_pb2.Money:
    return to_money(Money(investment.released_minor, investment.currency))


def to_payout_order(payout: Payout, mandate: Mandate, given_back: GivenBack | None) -> payout_orders_pb2.PayoutOrder:
    """
    Args:
        given_back: Of what it gives back, if it does and nobody altered that.
    """
    signed_in_at, api_key_id = mandate.session
    return payout_orders_pb2.PayoutOrder(
        idempotency_key=payout.request_key,
        type=payout.type.value,
        amount=to_money(Money(payout.amount_minor, payout.currency)),
        escrow_account_id=payout.escrow_account_id,
        party_id=payout.party_id,
        bank_account_id=payout.bank_account_id,
        payment_method=payout.payment_method,
        investment_id=payout.investment_id,
        distribution_id=payout.distribution_id,
        allocation_id=payout.allocation_id,
        description=DESCRIPTIONS[payout.type],
        ordered_by=mandate.actor,
        refund_approved=payout.refund_approved,
        sign_in_time=None if signed_in_at is None else Timestamp(seconds=signed_in_at),
        api_key_id=api_key_id,
        makers_and_checkers=sorted(mandate.makers_and_checkers),
        sets_off_receivables=payout.awaits_set_off,
        released_amount=None if given_back is None else _release_of(given_back.investment),
        has_entries_by_hand=given_back is not None and given_back.has_entries_by_hand,
    )
