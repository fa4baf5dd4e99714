"""What each fact about a transaction posts, as a table an accountant can read."""

import pytest

from services.escrow.domain.facts import Fact, Moving, Position, kind_of, legs_of, reversed_entry
from services.escrow.domain.journal import Kind, Layer, Leg, credit, debit, mirror

CONTRIBUTION = Moving("ESCROW_DEPOSIT", "inv-001", 100)
CASH_IN = Moving("DEPOSIT", "sponsor-1", 100)
PAYOUT = Moving("DISTRIBUTION", "inv-001", 100)
PROCEEDS = Moving("ESCROW_WITHDRAWAL", "sponsor-1", 100)
SUBSCRIPTION = "subscription:inv-001"
PENDING = Layer.PENDING

ON_ITS_WAY_IN = (debit("in_transit", 100, PENDING), credit(SUBSCRIPTION, 100, PENDING))
ARRIVED = (
    debit("in_transit", 100),
    credit(SUBSCRIPTION, 100),
    debit("cash", 100),
    credit("in_transit", 100),
)
NEVER_MIND = (debit(SUBSCRIPTION, 100, PENDING), credit("in_transit", 100, PENDING))
SUBMITTED_OUT = (debit("payable:inv-001", 100), credit("in_transit", 100))
PAID_OUT = (debit("in_transit", 100), credit("cash", 100))


def swap(legs: tuple[Leg, ...], old: str, new: str) -> tuple[Leg, ...]:
    return tuple(leg._replace(ledger_account=new) if leg.ledger_account == old else leg for leg in legs)


@pytest.mark.parametrize(
    ("moving", "booked", "fact", "posted"),
    [
        # money in
        (CONTRIBUTION, (), Fact.SUBMITTED, ON_ITS_WAY_IN),
        (CONTRIBUTION, ON_ITS_WAY_IN, Fact.SUBMITTED, ()),  # told twice
        (CONTRIBUTION, ON_ITS_WAY_IN, Fact.SETTLED, (*NEVER_MIND, *ARRIVED)),
        (CONTRIBUTION, (), Fact.SETTLED, ARRIVED),  # nobody said it was submitted
        (CONTRIBUTION, ARRIVED, Fact.SETTLED, ()),
        (CONTRIBUTION, ARRIVED, Fact.SUBMITTED, ()),  # told late
        (CONTRIBUTION, ON_ITS_WAY_IN, Fact.ENDED, NEVER_MIND),
        (CONTRIBUTION, ON_ITS_WAY_IN, Fact.RETURNED, NEVER_MIND),  # came back before it settled
        (CONTRIBUTION, (), Fact.ENDED, ()),
        (CONTRIBUTION, (), Fact.RETURNED, ()),
        (CONTRIBUTION, ARRIVED, Fact.RETURNED, (debit(SUBSCRIPTION, 100), credit("cash", 100))),
        (CONTRIBUTION, (*ARRIVED, debit(SUBSCRIPTION, 100), credit("cash", 100)), Fact.RETURNED, ()),
        (CASH_IN, (), Fact.SUBMITTED, swap(ON_ITS_WAY_IN, SUBSCRIPTION, "distributable")),
        (CASH_IN, (), Fact.SETTLED, swap(ARRIVED, SUBSCRIPTION, "distributable")),
        # money out
        (PAYOUT, (), Fact.SUBMITTED, ()),
        (PAYOUT, SUBMITTED_OUT, Fact.SUBMITTED, ()),
        (PAYOUT, SUBMITTED_OUT, Fact.SETTLED, PAID_OUT),
        (PAYOUT, (*SUBMITTED_OUT, *PAID_OUT), Fact.SETTLED, ()),
        (PAYOUT, (), Fact.ENDED, ()),  # it was refused before any provider was asked
        (PAYOUT, SUBMITTED_OUT, Fact.ENDED, (debit("in_transit", 100), credit("payable:inv-001", 100))),
        (PAYOUT, SUBMITTED_OUT, Fact.RETURNED, (debit("in_transit", 100), credit("payable:inv-001", 100))),
        (
            PAYOUT,
            (*SUBMITTED_OUT, *PAID_OUT),
            Fact.RETURNED,
            (debit("cash", 100), credit("payable:inv-001", 100)),
        ),
        (
            PROCEEDS,
            swap(SUBMITTED_OUT, "payable:inv-001", "issuer_proceeds"),
            Fact.ENDED,
            (debit("in_transit", 100), credit("issuer_proceeds", 100)),
        ),
        (Moving("TRANSFER", "inv-001", 100), (), Fact.SETTLED, ()),  # not the book's
    ],
)
def test_a_fact_posts_what_the_book_does_not_have_yet(moving, booked, fact, posted):
    assert legs_of(fact, moving, Position(booked), available=lambda _: 100) == posted


def test_money_that_arrives_in_a_frozen_account_is_unexplained_until_somebody_explains_it():
    legs = legs_of(Fact.SETTLED, CONTRIBUTION, Position(ON_ITS_WAY_IN), frozen=True)
    assert legs == (*NEVER_MIND, *swap(ARRIVED, SUBSCRIPTION, "suspense"))


@pytest.mark.parametrize(
    ("credited", "available", "posted"),
    [
        # the money is still there
        (SUBSCRIPTION, {SUBSCRIPTION: 100, "cash": 100}, (debit(SUBSCRIPTION, 100), credit("cash", 100))),
        # the offering has closed, and cash of others is left
        (
            SUBSCRIPTION,
            {SUBSCRIPTION: 0, "cash": 500},
            (debit("returns_receivable:inv-001", 100), credit("cash", 100)),
        ),
        # part of it is left
        (
            SUBSCRIPTION,
            {SUBSCRIPTION: 30, "cash": 500},
            (debit(SUBSCRIPTION, 30), debit("returns_receivable:inv-001", 70), credit("cash", 100)),
        ),
        # nothing is left: the rails are owed
        (
            SUBSCRIPTION,
            {SUBSCRIPTION: 0, "cash": 40},
            (debit("returns_receivable:inv-001", 100), credit("cash", 40), credit("in_transit", 60)),
        ),
        # it arrived while the account was frozen, and is unexplained still
        ("suspense", {"suspense": 100, "cash": 100}, (debit("suspense", 100), credit("cash", 100))),
        # it has been explained since
        (
            "suspense",
            {"suspense": 0, SUBSCRIPTION: 100, "cash": 100},
            (debit(SUBSCRIPTION, 100), credit("cash", 100)),
        ),
        # it has been explained since, and what is in suspense is another's
        (
            "suspense",
            {"suspense": 100, SUBSCRIPTION: 100, "cash": 200},
            (debit(SUBSCRIPTION, 100), credit("cash", 100)),
        ),
        # the party's own does not cover it
        (
            "suspense",
            {"suspense": 100, SUBSCRIPTION: 30, "cash": 200},
            (debit(SUBSCRIPTION, 30), debit("suspense", 70), credit("cash", 100)),
        ),
    ],
)
def test_a_late_return_is_never_refused_and_never_overdraws(credited, available, posted):
    booked = Position(swap(ARRIVED, SUBSCRIPTION, credited))
    assert legs_of(Fact.RETURNED, CONTRIBUTION, booked, available=lambda code: available.get(code, 0)) == posted


@pytest.mark.parametrize(
    ("cash", "posted"),
    [(250, PAID_OUT), (100, PAID_OUT), (40, (debit("in_transit", 40), credit("cash", 40))), (0, ()), (-5, ())],
)
def test_a_payout_that_settled_is_owed_to_the_rails_as_far_as_cash_does_not_cover_it(cash, posted):
    assert legs_of(Fact.SETTLED, PAYOUT, Position(SUBMITTED_OUT), available=lambda _: cash) == posted


def test_money_that_comes_back_from_a_frozen_account_is_taken_from_where_it_was_put():
    booked = Position(swap(ARRIVED, SUBSCRIPTION, "suspense"))
    legs = legs_of(Fact.RETURNED, CONTRIBUTION, booked, frozen=True, available=lambda code: 100)
    assert legs == (debit("suspense", 100), credit("cash", 100))


@pytest.mark.parametrize("moving", [CONTRIBUTION, CASH_IN, PAYOUT, PROCEEDS])
@pytest.mark.parametrize("fact", list(Fact))
def test_every_fact_balances_in_each_layer(moving, fact):
    for booked in ((), ON_ITS_WAY_IN, ARRIVED, SUBMITTED_OUT, (*SUBMITTED_OUT, *PAID_OUT)):
        legs = legs_of(fact, moving, Position(booked), available=lambda _: 40)
        for layer in Layer:
            signed = [leg.amount_minor if leg.direction.value == "DEBIT" else -leg.amount_minor
                      for leg in legs if leg.layer is layer]  # fmt: skip
            assert sum(signed) == 0


@pytest.mark.parametrize(
    ("moving", "fact", "kind"),
    [
        (CONTRIBUTION, Fact.SETTLED, Kind.DEPOSIT),
        (CASH_IN, Fact.SUBMITTED, Kind.DEPOSIT),
        (CONTRIBUTION, Fact.RETURNED, Kind.RETURN),
        (CONTRIBUTION, Fact.ENDED, Kind.REVERSAL),
        (PAYOUT, Fact.SETTLED, Kind.DISTRIBUTION),
        (PROCEEDS, Fact.SETTLED, Kind.WITHDRAWAL),
        (Moving("REFUND", "inv-001", 1), Fact.SETTLED, Kind.REFUND),
    ],
)
def test_an_entry_says_what_kind_of_fact_it_is(moving, fact, kind):
    assert kind_of(fact, moving) is kind


def test_what_undoes_names_the_entry_it_undoes():
    history = [("je_in", ARRIVED), ("je_back", mirror(ARRIVED)), ("je_out", SUBMITTED_OUT), ("je_paid", PAID_OUT)]
    assert reversed_entry(Fact.RETURNED, history) == "je_out"
    assert reversed_entry(Fact.ENDED, history[:1]) == "je_in"
    assert reversed_entry(Fact.SETTLED, history) is None
    assert reversed_entry(Fact.ENDED, []) is None
