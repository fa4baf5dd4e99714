"""The small rules of the distributions service that need no database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1 import journal_pb2
from realco.type.v1 import money_pb2

from services.chassis.values.errors import DomainError
from services.distributions import messages
from services.distributions.commands.raises.contributions import Booked, book_contributions, sum_contributions
from services.distributions.domain import states
from services.distributions.domain.destination import BankAccount, Destination
from services.distributions.domain.distribution import find_end
from services.distributions.domain.investment import Investment, begin_cancellings, hash_funded, share_shortfalls
from services.distributions.domain.offering import Exemption, Offering, check_date_order
from services.distributions.domain.refunds import RefundPosition
from services.distributions.domain.refusals import OutOfDateOrder, TermsInvalid
from services.distributions.domain.sagas import Mandate
from services.distributions.domain.states import InvestmentStatus
from services.distributions.domain.terms import build_terms
from services.distributions.domain.tiers import KINDS, spell_decimal
from services.distributions.store.columns import read_terms, write_terms
from services.distributions.subscribers import SUBSCRIPTIONS
from tests.support.ledger_accounts import ledger_account

Entry, Leg = journal_pb2.JournalEntry, journal_pb2.LedgerEntry
NOW = datetime(2026, 1, 1, tzinfo=UTC)
INVESTMENT = Investment(
    investment_id="inv_1",
    offering_id="off_1",
    party_id="inv-001",
    currency="USD",
    amount_minor=100,
    created_by="inv-001",
    created_at=NOW,
    updated_at=NOW,
)


def entry(kind: int, side: int, account: str = "subscription:inv-001", **fields: Any) -> journal_pb2.JournalEntry:
    fields = {"investment_id": "inv_1", "transaction_id": "txn_1", "layer": Leg.POSTED} | fields
    leg = Leg(
        ledger_account=ledger_account(account),
        direction=side,
        amount=money_pb2.Money(currency_code="USD", amount_minor=100),
        layer=fields.pop("layer"),
    )
    return journal_pb2.JournalEntry(type=kind, ledger_entries=[leg], **fields)


@pytest.mark.parametrize(
    ("case", "added"),
    [
        (entry(Entry.DEPOSIT, Leg.CREDIT), Booked(funded=100)),
        (entry(Entry.REFUND, Leg.DEBIT), Booked(funded=-100, refunded=100)),
        (entry(Entry.REVERSAL, Leg.CREDIT), Booked(funded=100, refunded=-100)),  # a refund that failed
        (entry(Entry.REVERSAL, Leg.DEBIT), Booked(funded=-100, refunded=100)),  # and had not failed, say two persons
        (entry(Entry.RETURN, Leg.CREDIT), Booked(funded=100, refunded=-100)),  # a refund that came back
        (entry(Entry.ADJUSTMENT, Leg.CREDIT, transaction_id=""), Booked(funded=100)),
        # What was paid back by hand is not owed any more, whatever the entry is called.
        (entry(Entry.REFUND, Leg.DEBIT, transaction_id=""), Booked(funded=-100)),
        (entry(Entry.REVERSAL, Leg.CREDIT, transaction_id=""), Booked(funded=100)),
        (entry(Entry.RELEASE, Leg.DEBIT), None),
        (entry(Entry.DEPOSIT, Leg.CREDIT, layer=Leg.PENDING), None),
        (entry(Entry.DEPOSIT, Leg.CREDIT, account="suspense"), None),
        (entry(Entry.DEPOSIT, Leg.CREDIT, investment_id=""), None),
        (entry(Entry.DEPOSIT, Leg.CREDIT, account="unapplied:inv-001"), Booked(unapplied=100)),
        (entry(Entry.ADJUSTMENT, Leg.DEBIT, account="unapplied:inv-001", transaction_id=""), Booked(unapplied=-100)),
        (entry(Entry.DEPOSIT, Leg.CREDIT, account="unapplied:inv-001", layer=Leg.PENDING), None),
        (entry(Entry.RETURN, Leg.DEBIT, account="returns_receivable:inv-001"), Booked(receivable=100)),
        (entry(Entry.ADJUSTMENT, Leg.CREDIT, account="returns_receivable:inv-001"), Booked(receivable=-100)),
    ],
)
def test_what_an_entry_says_of_an_investment(case: journal_pb2.JournalEntry, added: Booked | None) -> None:
    assert sum_contributions([case]).get(("inv_1", "inv-001")) == added


def test_what_undoes_a_contribution_undoes_no_refund() -> None:
    for kind, side, added in (
        (Entry.RETURN, Leg.DEBIT, Booked(funded=-100, undone=100)),
        (Entry.REVERSAL, Leg.DEBIT, Booked(funded=-100, undone=100)),
        (Entry.REVERSAL, Leg.CREDIT, Booked(funded=100)),
    ):
        assert sum_contributions([entry(kind, side)], {"txn_1"}) == {("inv_1", "inv-001"): added}


_ARRIVED, _RETURNED = entry(Entry.DEPOSIT, Leg.CREDIT), entry(Entry.RETURN, Leg.DEBIT)
_GIVEN_AGAIN, _TAKEN_AGAIN = entry(Entry.REVERSAL, Leg.CREDIT), entry(Entry.REVERSAL, Leg.DEBIT)


@pytest.mark.parametrize(
    ("entries", "at_risk"),
    [
        ([_ARRIVED], 100),
        ([entry(Entry.DEPOSIT, Leg.CREDIT, account="unapplied:inv-001")], 100),
        ([_ARRIVED, _RETURNED], 0),
        ([_ARRIVED, entry(Entry.RETURN, Leg.DEBIT, account="returns_receivable:inv-001")], 0),
        ([_ARRIVED, _RETURNED, _GIVEN_AGAIN], 0),  # no bank takes it back once more
        ([_ARRIVED, _RETURNED, _GIVEN_AGAIN, _TAKEN_AGAIN], 0),
        ([_ARRIVED, _RETURNED, _ARRIVED], 100),  # presented again
        ([_ARRIVED, _TAKEN_AGAIN], 0),  # it never came, say two persons
        ([_ARRIVED, _TAKEN_AGAIN, _GIVEN_AGAIN], 100),
    ],
)
def test_a_contribution_is_at_risk_while_the_book_has_it_and_a_bank_may_take_it_back(
    entries: list[journal_pb2.JournalEntry], at_risk: int
) -> None:
    [booked] = book_contributions(entries, {}, {"inv_1"}).values()
    assert booked.at_risk_minor == at_risk
    assert replace(booked, counted=True).at_risk_minor == 0


@pytest.mark.parametrize(
    "case",
    [
        entry(Entry.DEPOSIT, Leg.CREDIT, investment_id="inv_2"),
        entry(Entry.DEPOSIT, Leg.CREDIT, transaction_id=""),
        entry(Entry.REFUND, Leg.DEBIT),
        entry(Entry.RETURN, Leg.CREDIT),
    ],
)
def test_no_entry_of_anything_else_makes_a_contribution(case: journal_pb2.JournalEntry) -> None:
    assert book_contributions([case], {}, {"inv_1"}) == {}


@pytest.mark.parametrize(
    ("booked", "released", "funded"),
    [
        ([400, 400], [0, 0], [400, 400]),
        ([-400, 400], [0, 0], [0, 0]),  # refunded, then taken back by the bank
        ([-400, 300, 300], [0, 0, 0], [0, 0, 200]),
        ([400, -100, 50], [0, 0, 0], [300, 0, 50]),
        ([0, 400], [400, 0], [400, 0]),  # a closing had taken the first
        ([0, 400], [400, 300], [400, 300]),  # and of the second: what is left is owed
    ],
)
def test_investments_of_a_party_make_up_for_one_another(
    booked: list[int], released: list[int], funded: list[int]
) -> None:
    held = [
        replace(INVESTMENT, investment_id=f"inv_{number}", funded_minor=minor, released_minor=taken)
        for number, (minor, taken) in enumerate(zip(booked, released, strict=True))
    ]
    shared = share_shortfalls(held)
    assert [each.funded_minor for each in shared] == funded
    assert [each.funded_minor + each.made_up_minor for each in shared] == booked
    assert share_shortfalls(shared) == shared
    # Of another party nothing is taken.
    others = [*held, replace(INVESTMENT, investment_id="inv_9", party_id="inv-009", funded_minor=900)]
    assert share_shortfalls(others)[-1].funded_minor == 900


@pytest.mark.parametrize(
    ("funded", "refunded", "released", "paid", "owed"),
    [
        (100, 0, 0, 0, 100),
        (100, 0, 0, 100, 0),  # the payout is under way, and not booked
        (0, 100, 0, 100, 0),  # and booked
        (0, 100, 0, 0, 100),  # and failed, and the mirror is not booked
        (200, 0, 100, 0, 100),  # of two, the closing took one
        (50, 100, 0, 100, 50),  # a late contribution
        (120, 0, 100, 0, 20),  # after the closing
        (0, 0, 0, 0, 0),
    ],
)
def test_what_is_owed_to_an_investor_does_not_depend_on_the_order_of_news(
    funded: int, refunded: int, released: int, paid: int, owed: int
) -> None:
    held = replace(INVESTMENT, funded_minor=funded, refunded_minor=refunded, released_minor=released)
    assert RefundPosition(held, paid, 0, False, 0, None).owed_minor == owed


@pytest.mark.parametrize(
    ("seen", "went", "again", "owed", "is_covered"),
    [
        (0, 0, 0, 1, False),  # nobody decided
        (10, 0, 0, 10, True),
        (10, 0, 0, 11, False),  # more came in since
        (10, 10, 0, 10, False),  # that went already
        (10, 4, 0, 6, True),
        (10, 10, 5, 5, True),  # two persons decided again
        (10, 10, 5, 6, False),
        (10, 0, 5, 10, True),  # what they saw before came to nothing
        (10, 0, 5, 15, False),  # the second time they saw this very money
    ],
)
def test_a_refund_was_decided_on_as_far_as_two_persons_saw_it(
    seen: int, went: int, again: int, owed: int, is_covered: bool
) -> None:
    held = replace(INVESTMENT, funded_minor=owed, refunded_minor=went, refund_approved_minor=seen)
    assert RefundPosition(held, went, went, False, 1, None).is_covered(again) is is_covered


@pytest.mark.parametrize(("is_decided", "approved"), [(False, [0, 0, 0]), (True, [20, 10, 0])])
def test_a_refund_of_all_is_approved_of_each_as_far_as_two_persons_decided_on_all(
    approved: list[int], *, is_decided: bool
) -> None:
    investments = [replace(INVESTMENT, funded_minor=minor) for minor in (20, 10, -5)]
    ending = begin_cancellings(investments, Mandate("admin-1"), "saga_1", is_decided=is_decided)
    assert [each.refund_approved_minor for each in ending] == approved


def test_a_yes_to_all_is_one_to_what_is_in_each() -> None:
    ours, theirs = (replace(INVESTMENT, investment_id=name, funded_minor=100) for name in ("inv_a", "inv_b"))
    same = hash_funded([ours, theirs])
    assert hash_funded([theirs, ours]) == same
    swapped = [replace(ours, funded_minor=0), replace(theirs, funded_minor=200)]
    assert hash_funded(swapped) != same
    assert hash_funded([ours, replace(theirs, investment_id="inv_c")]) != same
    unpaid = [
        replace(INVESTMENT, investment_id=name, funded_minor=minor) for name, minor in (("inv_d", 0), ("inv_e", -5))
    ]
    assert hash_funded([ours, theirs, *unpaid]) == same, "who commits and pays nothing ends nothing of others"


@pytest.mark.parametrize("status", list(InvestmentStatus))
def test_money_that_comes_in_stays_with_an_investment_that_waits_for_its_closing_and_goes_back_from_any_other(
    status: InvestmentStatus,
) -> None:
    waits = status in {InvestmentStatus.PENDING, InvestmentStatus.RECONFIRM_REQUIRED}
    came = replace(INVESTMENT, status=status, funded_minor=100, released_minor=0)
    assert RefundPosition(came, 0, 0, False, 0, None).may_go(again=False) is not waits


@pytest.mark.parametrize("status", list(InvestmentStatus))
@pytest.mark.parametrize(
    ("left", "paid", "is_under_way", "is_over"),
    [
        ({}, 0, False, True),  # nothing ever came
        ({"refunded_minor": 100}, 100, False, True),  # all went back
        ({"funded_minor": 100}, 0, False, False),
        ({"funded_minor": 100}, 100, False, False),  # it was paid back, and is not booked
        ({"refunded_minor": 100}, 0, False, False),  # a refund came back, and is not booked
        ({"refunded_minor": 100}, 100, True, False),
        ({"on_its_way_minor": 100}, 0, False, False),
        ({"cancelling_saga_id": "saga_1"}, 0, False, False),  # transactions has yet to say what is on its way
    ],
)
def test_a_withdrawn_investment_is_cancelled_exactly_while_nothing_of_its_money_is_here_or_on_its_way(
    status: InvestmentStatus, left: dict[str, Any], paid: int, *, is_under_way: bool, is_over: bool
) -> None:
    held = replace(INVESTMENT, status=status, **left)
    follows = InvestmentStatus.CANCELLED if is_over else InvestmentStatus.CANCELLING
    expected = follows if held.is_withdrawn else status
    assert RefundPosition(held, paid, 0, is_under_way, 1, None).status is expected


@pytest.mark.parametrize(
    ("funded", "at_risk", "receivable", "cleared"),
    [(100, 100, 0, 0), (100, 40, 0, 60), (100, 0, 0, 100), (100, 0, 30, 70), (100, 0, -30, 100), (50, 100, 0, 0)],
)
def test_cleared_money_is_past_its_return_risk_and_still_here(
    funded: int, at_risk: int, receivable: int, cleared: int
) -> None:
    held = replace(INVESTMENT, funded_minor=funded, at_risk_minor=at_risk, receivable_minor=receivable)
    assert messages.to_investment(held).cleared_amount.amount_minor == cleared


ANY_SHARE = st.integers(0, 1_000_000).map(lambda millionths: spell_decimal(Fraction(millionths, 1_000_000)))


ORDERS = st.sampled_from(
    [
        ["RETURN_OF_CAPITAL", "PREFERRED_RETURN", "CATCH_UP", "SPLIT"],
        ["PREFERRED_RETURN", "RETURN_OF_CAPITAL", "CATCH_UP", "SPLIT"],
        ["RETURN_OF_CAPITAL", "PREFERRED_RETURN", "SPLIT"],
    ]
)


@given(ANY_SHARE, ANY_SHARE, ANY_SHARE, ORDERS)
def test_terms_are_kept_as_they_were_agreed(rate: str, share: str, carry: str, kinds: list[str]) -> None:
    parameters = {
        "PREFERRED_RETURN": {"rate": rate},
        "CATCH_UP": {"sponsor_share": share},
        "SPLIT": {"sponsor_share": carry},
    }
    try:
        terms = build_terms([(kind, parameters.get(kind, {})) for kind in kinds])
    except TermsInvalid:
        reject()
    assert read_terms(write_terms(terms)) == terms
    assert messages.read_terms(messages.to_waterfall_terms(terms)) == terms


def test_every_kind_of_tier_has_a_message_with_its_parameters_and_a_name_in_answers() -> None:
    tier = opb.WaterfallTerms.Tier.DESCRIPTOR
    contract = {
        field.name.upper(): {each.name for each in field.message_type.fields} for field in tier.oneofs[0].fields
    }
    assert contract == {kind: {each.name for each in fields(tier)} for kind, tier in KINDS.items()}
    assert set(opb.WaterfallTerms.Kind.keys()) == {"KIND_UNSPECIFIED", *KINDS}


@pytest.mark.parametrize(
    ("counts", "current", "end"),
    [
        ({"COMPLETED": 2}, "PROCESSING", "COMPLETED"),
        ({"COMPLETED": 1, "FAILED": 1}, "PROCESSING", "PARTIALLY_FAILED"),
        ({"FAILED": 2}, "PROCESSING", "FAILED"),
        ({"RETURNED": 2}, "COMPLETED", "PARTIALLY_FAILED"),  # it was paid, and all of it came back
        ({"RETURNED": 1, "FAILED": 1}, "PARTIALLY_FAILED", "PARTIALLY_FAILED"),
    ],
)
def test_a_distribution_ends_as_its_allocations_did(counts: dict[str, int], current: str, end: str) -> None:
    found = {states.AllocationStatus(status): count for status, count in counts.items()}
    ranked = find_end(found, states.DistributionStatus(current))
    assert ranked is states.DistributionStatus(end)


JUNE = datetime(2025, 6, 1, tzinfo=UTC)
CLOSED = Offering(
    **dict.fromkeys(("offering_id", "display_name", "sponsor_party_id", "escrow_account_id", "created_by"), "x"),
    exemption=Exemption.REG_CF,
    currency="USD",
    target_minor=1,
    maximum_minor=1,
    open_at=JUNE,
    deadline_at=JUNE,
    terms=build_terms([]),
    closing_date=JUNE.date(),
    makers=frozenset(),
    created_at=JUNE,
    updated_at=JUNE,
)


@pytest.mark.parametrize(
    ("declared_through", "day", "why"),
    [
        (None, 2, None),
        (None, 1, "The offering had not closed before that date."),
        (date(2025, 6, 20), 20, None),
        (date(2025, 6, 20), 19, "A distribution of the offering that was declared bears a later date."),
    ],
)
def test_a_distribution_is_dated_after_the_closing_and_not_before_one_that_was_declared(
    declared_through: date | None, day: int, why: str | None
) -> None:
    offering, on = replace(CLOSED, declared_through=declared_through), date(2025, 6, day)
    if why is None:
        check_date_order(offering, on)
        return
    with pytest.raises(OutOfDateOrder) as refused:
        check_date_order(offering, on)
    earliest = refused.value.metadata["earliest_distribution_date"]
    assert refused.value.message == why
    assert refused.value.fields == {"distribution_date": f"must not be before {earliest}"}


def test_the_service_hears_the_book_and_the_rails() -> None:
    heard = {each.consumer: each.types_by_stream() for each in SUBSCRIPTIONS}
    assert heard["distributions-on-escrow"] == {"ESCROW": {"realco.escrow.v1.JournalEntriesPosted"}}
    assert set(heard["distributions-on-transactions"]) == {"TRANSACTIONS"}


TAKEN = "taken"


def bank_account(status: str) -> BankAccount:
    return BankAccount("ba_1", "inv-001", "Ann Lee", "6789", status, NOW, "admin-1", frozenset({"admin-1"}))


def verdict_of(check: Callable[[], object]) -> str:
    try:
        check()
    except DomainError as refusal:
        return refusal.reason
    return TAKEN


@pytest.mark.parametrize(
    ("asked", "named", "verdict"),
    [
        (Destination(None), None, TAKEN),  # transactions chooses when it pays
        (Destination("ba_1", bank_account("ACTIVE")), "ba_1", TAKEN),
        (Destination("ba_1"), "ba_1", "BANK_ACCOUNT_NOT_FOUND"),
        (Destination("ba_1", replace(bank_account("BLOCKED"), party_id="inv-9")), "ba_1", "BANK_ACCOUNT_NOT_FOUND"),
        # Another order named another account since transactions was asked.
        (Destination("ba_1", bank_account("ACTIVE")), "ba_2", "UNAVAILABLE"),
        (Destination(None), "ba_2", "UNAVAILABLE"),
    ],
)
def test_money_goes_to_the_account_that_transactions_was_asked_about_and_no_other(
    asked: Destination, named: str | None, verdict: str
) -> None:
    assert verdict_of(partial(asked.check, named, "inv-001", field=None)) == verdict
