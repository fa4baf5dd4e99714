"""The gates before a release, and the approval of a distribution, each at its edge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from realco.distributions.v1.distributions_pb2 import Allocation, DistributionContent

from services.chassis.approvals.messages import to_content
from services.chassis.spelling.json_reader import reader_of
from services.chassis.spelling.json_writer import writer_of
from services.chassis.values.approval import NOBODY, ApprovalDetails, hash_content
from services.chassis.values.errors import Kind
from services.chassis.values.money import Money
from services.chassis.values.refusals import ContentChanged
from services.distributions.domain.closing import (
    ClosingFacts,
    EarlyClose,
    Gate,
    GateName,
    SubscriptionFacts,
    SubscriptionHold,
    build_gates,
    check_gates,
)
from services.distributions.domain.distribution import check_content
from services.distributions.domain.lots import SPONSOR
from services.distributions.domain.offering import Exemption, Offering, ReceivablesPolicy
from services.distributions.domain.refusals import ClosingGatesNotMet
from services.distributions.domain.terms import CAPITAL_FIRST, Terms, build_terms
from services.distributions.domain.waterfall import Line
from services.distributions.messages import to_distribution_content

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)  # a Wednesday, and a holiday
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)

CLEARED = SubscriptionFacts("inv-1", 60_000_00, cleared=True, at_risk=False)
READY = ClosingFacts(
    exemption=Exemption.REG_CF,
    currency="USD",
    target_minor=100_000_00,
    maximum_minor=100_000_00,
    disclosed_at=NOW - 30 * DAY,
    entered_at=NOW - 30 * DAY,
    deadline=NOW - HOUR,
    subscriptions=(CLEARED, replace(CLEARED, party_id="inv-2", funded_minor=40_000_00)),
    released={"inv-1": 60_000_00, "inv-2": 40_000_00},
    available={"inv-1": 60_000_00, "inv-2": 40_000_01},
    holds=(),
    debts={},
    provider_fees_minor=0,
    escrow_status="ACTIVE",
    escrow_balanced=True,
    is_counted=True,
)


def gate(facts: ClosingFacts, name: str) -> Gate:
    return next(gate for gate in build_gates(facts, NOW) if gate.name is GateName[name])


def with_first(**changes: object) -> ClosingFacts:
    return replace(READY, subscriptions=(replace(CLEARED, **changes), READY.subscriptions[1]))


def early(deadline: datetime, noticed_on: date) -> ClosingFacts:
    return replace(READY, deadline=NOW + 60 * DAY, early_close=EarlyClose(deadline, noticed_on))


REG_D = replace(READY, exemption=Exemption.REG_D_506B)


@pytest.mark.parametrize(
    ("name", "facts", "passed"),
    [
        ("TARGET_REACHED", READY, True),  # to the cent
        ("TARGET_REACHED", with_first(funded_minor=59_999_99), False),
        ("TARGET_REACHED", replace(READY, target_minor=0, subscriptions=()), False),  # nothing is no success
        ("WITHIN_MAXIMUM", READY, True),  # to the cent
        ("WITHIN_MAXIMUM", with_first(funded_minor=60_000_01), False),
        ("OPEN_21_DAYS", replace(READY, disclosed_at=NOW - 21 * DAY), True),
        ("OPEN_21_DAYS", replace(READY, disclosed_at=NOW - 21 * DAY + SECOND), False),
        ("OPEN_21_DAYS", replace(READY, entered_at=NOW - 21 * DAY), True),
        ("OPEN_21_DAYS", replace(READY, entered_at=NOW - 21 * DAY + SECOND), False),
        ("OPEN_21_DAYS", replace(READY, disclosed_at=None), False),
        ("OPEN_21_DAYS", replace(REG_D, disclosed_at=None), True),
        ("CANCELLATION_WINDOW_OVER", replace(READY, deadline=NOW), True),
        ("CANCELLATION_WINDOW_OVER", replace(READY, deadline=NOW + SECOND), False),  # cancelling is over, the offer not
        ("CANCELLATION_WINDOW_OVER", replace(READY, deadline=NOW + 49 * HOUR), False),
        ("CANCELLATION_WINDOW_OVER", replace(REG_D, deadline=NOW + 49 * HOUR), True),
        ("CANCELLATION_WINDOW_OVER", early(datetime(2024, 12, 31, 12, tzinfo=UTC), date(2024, 12, 23)), True),
        # Christmas Day and New Year's Day are no business days: notice given on the 24th ends on 2 January.
        ("CANCELLATION_WINDOW_OVER", early(datetime(2024, 12, 31, 12, tzinfo=UTC), date(2024, 12, 24)), False),
        ("CANCELLATION_WINDOW_OVER", early(NOW + SECOND, date(2024, 12, 2)), False),
        ("INVESTORS_CLEARED", READY, True),
        ("INVESTORS_CLEARED", with_first(cleared=False), False),
        ("RETURN_RISK_OVER", READY, True),
        ("RETURN_RISK_OVER", with_first(at_risk=True), False),
        ("RETURN_RISK_OVER", with_first(at_risk=True, funded_minor=0), True),  # no money, no risk
        ("SUBSCRIPTIONS_AVAILABLE", READY, True),
        ("SUBSCRIPTIONS_AVAILABLE", replace(READY, available={"inv-1": 59_999_99, "inv-2": 40_000_00}), False),
        ("SUBSCRIPTIONS_AVAILABLE", replace(READY, available={"inv-1": 60_000_00}), False),  # and nothing of another
        ("SUBSCRIPTIONS_AVAILABLE", replace(READY, available=None), False),
        # What is held besides is not to be released.
        ("SUBSCRIPTIONS_AVAILABLE", replace(READY, holds=(SubscriptionHold("hold_1", "inv-2", 1),)), True),
        ("RETURNS_RECOVERED", READY, True),
        ("RETURNS_RECOVERED", replace(READY, debts={"inv-3": 1}), False),  # of whomever, it is missing in the cash
        ("RETURNS_RECOVERED", replace(READY, debts=None), False),
        ("PROVIDER_FEES_COVERED", READY, True),
        ("PROVIDER_FEES_COVERED", replace(READY, provider_fees_minor=1), False),
        ("PROVIDER_FEES_COVERED", replace(READY, provider_fees_minor=None), False),
        ("ESCROW_ACTIVE", READY, True),
        ("ESCROW_ACTIVE", replace(READY, escrow_status="FROZEN"), False),
        ("ESCROW_ACTIVE", replace(READY, escrow_status=None), False),
        ("ESCROW_BALANCED", READY, True),
        ("ESCROW_BALANCED", replace(READY, escrow_balanced=False), False),
        ("ESCROW_BALANCED", replace(READY, escrow_balanced=None), False),
        ("BOOK_COUNTED", READY, True),
        ("BOOK_COUNTED", replace(READY, is_counted=False), False),
    ],
)
def test_a_gate_opens_at_its_edge_and_not_before(name, facts, passed):
    assert gate(facts, name).passed is passed


def test_every_gate_answers_once_by_name_and_in_a_sentence():
    gates = build_gates(READY, NOW)
    assert [gate.name for gate in gates] == list(GateName)
    assert all(gate.passed and gate.explanation.statement.endswith(".") for gate in gates)
    assert all(gate.explanation.rule == gate.name.value and gate.explanation.source for gate in gates)
    check_gates(gates)


def test_an_offering_that_cannot_close_is_told_every_reason():
    facts = replace(with_first(cleared=False), escrow_status="FROZEN")
    with pytest.raises(ClosingGatesNotMet) as refused:
        check_gates(build_gates(facts, NOW))
    assert (refused.value.kind, refused.value.reason) == (Kind.FAILED_PRECONDITION, "CLOSING_GATES_NOT_MET")
    assert set(refused.value.metadata) == {"INVESTORS_CLEARED", "ESCROW_ACTIVE"}
    assert "inv-1: has no fresh passed compliance check." in refused.value.message


def test_a_shut_gate_names_three_investors_and_counts_the_others():
    many = [replace(CLEARED, party_id=f"inv-{n}", cleared=False) for n in range(1, 6)]
    statement = gate(replace(READY, subscriptions=many), "INVESTORS_CLEARED").explanation.statement
    assert statement == "inv-1, inv-2, inv-3 and 2 more: has no fresh passed compliance check."


def test_money_that_is_held_is_named_with_its_holds_and_what_is_missing_of_it():
    holds = [SubscriptionHold("hold_1", "inv-1", 100_00), SubscriptionHold("hold_2", "inv-2", 1)]
    available = {"inv-1": 59_900_00, "inv-2": 40_000_00}
    explanation = gate(replace(READY, available=available, holds=holds), "SUBSCRIPTIONS_AVAILABLE").explanation
    assert explanation.statement == (
        "100.00 USD of the 100,000.00 USD to be released is not available, of inv-1: held by hold_1."
    )
    assert dict(explanation.operands) == {
        "to release": Money(100_000_00, "USD"),
        "not available": Money(100_00, "USD"),
        "hold_1": Money(100_00, "USD"),
    }


NEW_YEAR = date(2026, 1, 1)
TERMS = Terms()
OAK_STREET = Offering(
    offering_id="off_1",
    display_name="Oak Street Apartments",
    sponsor_party_id="pty_sponsor",
    escrow_account_id="esc_1",
    exemption=Exemption.REG_CF,
    currency="USD",
    target_minor=100_00,
    maximum_minor=100_00,
    open_at=NOW,
    deadline_at=NOW + 60 * DAY,
    terms=TERMS,
    created_by="admin-1",
    makers=frozenset({"admin-1"}),
    created_at=NOW,
    updated_at=NOW,
)
HUNDRED = Money(100_00, "USD")
LINES = (Line("inv-1", (60_00, 0, 0, 0)), Line("inv-2", (40_00, 0, 0, 0)))


def agreed(rate: str = "0.08", catch_up: str = "1", split: str = "0.3") -> Terms:
    return build_terms(
        [
            ("RETURN_OF_CAPITAL", {}),
            ("PREFERRED_RETURN", {"rate": rate}),
            ("CATCH_UP", {"sponsor_share": catch_up}),
            ("SPLIT", {"sponsor_share": split}),
        ]
    )


def hashed(
    distribution_id: str = "dist_1",
    amount: Money = HUNDRED,
    on: date = NEW_YEAR,
    terms: Terms = TERMS,
    lines: tuple[Line, ...] = LINES,
    policy: ReceivablesPolicy = ReceivablesPolicy.BLOCK,
) -> str:
    offering = replace(OAK_STREET, terms=terms, receivables_policy=policy)
    resource = to_distribution_content(offering, distribution_id, amount, on, lines)
    details = ApprovalDetails("", distribution_id, amount=amount, beneficiary_party_ids=NOBODY)
    return hash_content(to_content("APPROVE_DISTRIBUTION", "org-1", resource, details, name="resource"))


def test_what_is_decided_on_about_a_distribution_is_the_message_that_the_contract_names():
    lines = (Line("inv-1", (60_00, 5_00, 0, 1)), Line("inv-2", (0, 0, 0, 2)), Line(SPONSOR, (0, 0, 9_00, 3)))
    spelled = to_distribution_content(OAK_STREET, "dist_1", HUNDRED, NEW_YEAR, lines)
    message, found = DistributionContent(), []
    reader_of(message.DESCRIPTOR)(message, spelled, (), found)
    assert found == []
    assert writer_of(message.DESCRIPTOR, sparse=True)(message) == spelled
    assert [(each.party_id, each.payee_type, each.amount.amount_minor) for each in message.allocations] == [
        ("pty_sponsor", Allocation.SPONSOR, 9_03),
        ("inv-1", Allocation.INVESTOR, 65_01),
        ("inv-2", Allocation.INVESTOR, 2),
    ]
    assert [(each["tier"], each["kind"]) for each in spelled["allocations"][1]["lines"]] == [
        (1, "RETURN_OF_CAPITAL"),
        (2, "PREFERRED_RETURN"),
        (4, "SPLIT"),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"distribution_id": "dist_2"},
        {"amount": Money(100_01, "USD")},
        {"amount": Money(100_00, "EUR")},
        {"on": date(2026, 1, 2)},
        {"terms": agreed(rate="0.080001")},
        {"terms": agreed(catch_up="0.9999")},
        {"terms": agreed(split="0.2999")},
        {"terms": Terms((CAPITAL_FIRST[1], CAPITAL_FIRST[0], *CAPITAL_FIRST[2:]))},
        {"lines": (Line("inv-1", (59_99, 0, 0, 0)), Line("inv-2", (40_01, 0, 0, 0)))},
        {"lines": (Line("inv-1", (0, 60_00, 0, 0)), LINES[1])},  # the same cents under another tier
        {"lines": (Line("inv-3", (60_00, 0, 0, 0)), LINES[1])},
        {"lines": (Line(SPONSOR, (60_00, 0, 0, 0)), LINES[1])},
        {"policy": ReceivablesPolicy.SET_OFF},
    ],
)
def test_any_change_of_content_changes_the_hash(changed):
    assert hashed(**changed) != hashed()


def test_the_hash_does_not_depend_on_the_order_of_the_lines():
    assert hashed(lines=LINES[::-1]) == hashed()


def test_the_hash_of_stored_distributions_does_not_change_with_the_code():
    assert hashed() == "c675cfa735d6353cbf78c7b57598bf07bde99b1e869ddf2a35324d2cd36f8852"


def test_what_was_seen_is_approved_and_nothing_else():
    check_content(hashed(), hashed())
    with pytest.raises(ContentChanged) as refused:
        check_content(hashed(), hashed(on=date(2026, 1, 2)))
    assert (refused.value.kind, refused.value.reason) == (Kind.FAILED_PRECONDITION, "CONTENT_CHANGED")
    assert refused.value.metadata["content_hash"] == hashed(on=date(2026, 1, 2))
