"""What a transaction posts at each stage, as a table an accountant can read."""

import pytest

from services.escrow.domain.chart import (
    CASH,
    DISTRIBUTABLE,
    IN_TRANSIT,
    ISSUER_PROCEEDS,
    LedgerAccount,
    LedgerAccountKind,
    account_of_party,
)
from services.escrow.domain.journal import EntryType, Layer, Leg, credit, debit, mirror
from services.escrow.domain.stages import (
    BookedPosition,
    Moving,
    Stage,
    build_coming_and_going,
    build_legs,
    reversed_entry,
    type_of,
)
from services.escrow.domain.types import TYPES

CONTRIBUTION = Moving(TYPES["ESCROW_DEPOSIT"], "inv-001", 100)
CASH_IN = Moving(TYPES["DEPOSIT"], "sponsor-1", 100)
PAYOUT = Moving(TYPES["DISTRIBUTION"], "inv-001", 100)
PROCEEDS = Moving(TYPES["ESCROW_WITHDRAWAL"], "sponsor-1", 100)
SUBSCRIPTION = account_of_party(LedgerAccountKind.SUBSCRIPTION, "inv-001")
UNAPPLIED = account_of_party(LedgerAccountKind.UNAPPLIED, "inv-001")
PAYABLE = account_of_party(LedgerAccountKind.PAYABLE, "inv-001")
RECEIVABLE = account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, "inv-001")
PENDING = Layer.PENDING

ON_ITS_WAY_IN = (debit(IN_TRANSIT, 100, PENDING), credit(SUBSCRIPTION, 100, PENDING))
ARRIVED = (
    debit(IN_TRANSIT, 100),
    credit(SUBSCRIPTION, 100),
    debit(CASH, 100),
    credit(IN_TRANSIT, 100),
)
NEVER_MIND = (debit(SUBSCRIPTION, 100, PENDING), credit(IN_TRANSIT, 100, PENDING))
SUBMITTED_OUT = (debit(PAYABLE, 100), credit(IN_TRANSIT, 100))
PAID_OUT = (debit(IN_TRANSIT, 100), credit(CASH, 100))


def swap(legs: tuple[Leg, ...], old: LedgerAccount, new: LedgerAccount) -> tuple[Leg, ...]:
    return tuple(leg._replace(ledger_account=new) if leg.ledger_account == old else leg for leg in legs)


@pytest.mark.parametrize(
    ("moving", "booked", "stage", "posted"),
    [
        # money in
        (CONTRIBUTION, (), Stage.SUBMITTED, ON_ITS_WAY_IN),
        (CONTRIBUTION, ON_ITS_WAY_IN, Stage.SUBMITTED, ()),  # heard twice
        (CONTRIBUTION, ON_ITS_WAY_IN, Stage.SETTLED, (*NEVER_MIND, *ARRIVED)),
        (CONTRIBUTION, (), Stage.SETTLED, ARRIVED),  # nobody said it was submitted
        (CONTRIBUTION, ARRIVED, Stage.SETTLED, ()),
        (CONTRIBUTION, ARRIVED, Stage.SUBMITTED, ()),  # heard late
        (CONTRIBUTION, ON_ITS_WAY_IN, Stage.ENDED, NEVER_MIND),
        (CONTRIBUTION, ON_ITS_WAY_IN, Stage.RETURNED, NEVER_MIND),  # came back before it settled
        (CONTRIBUTION, (), Stage.ENDED, ()),
        (CONTRIBUTION, (), Stage.RETURNED, ()),
        (CONTRIBUTION, ARRIVED, Stage.RETURNED, (debit(SUBSCRIPTION, 100), credit(CASH, 100))),
        (CONTRIBUTION, (*ARRIVED, debit(SUBSCRIPTION, 100), credit(CASH, 100)), Stage.RETURNED, ()),
        (CASH_IN, (), Stage.SUBMITTED, swap(ON_ITS_WAY_IN, SUBSCRIPTION, DISTRIBUTABLE)),
        (CASH_IN, (), Stage.SETTLED, swap(ARRIVED, SUBSCRIPTION, DISTRIBUTABLE)),
        # money out
        (PAYOUT, (), Stage.SUBMITTED, ()),
        (PAYOUT, SUBMITTED_OUT, Stage.SUBMITTED, ()),
        (PAYOUT, SUBMITTED_OUT, Stage.SETTLED, PAID_OUT),
        (PAYOUT, (*SUBMITTED_OUT, *PAID_OUT), Stage.SETTLED, ()),
        (PAYOUT, (), Stage.ENDED, ()),  # it was refused before any provider was asked
        (PAYOUT, SUBMITTED_OUT, Stage.ENDED, (debit(IN_TRANSIT, 100), credit(PAYABLE, 100))),
        (PAYOUT, SUBMITTED_OUT, Stage.RETURNED, (debit(IN_TRANSIT, 100), credit(PAYABLE, 100))),
        (
            PAYOUT,
            (*SUBMITTED_OUT, *PAID_OUT),
            Stage.RETURNED,
            (debit(CASH, 100), credit(PAYABLE, 100)),
        ),
        (
            PROCEEDS,
            swap(SUBMITTED_OUT, PAYABLE, ISSUER_PROCEEDS),
            Stage.ENDED,
            (debit(IN_TRANSIT, 100), credit(ISSUER_PROCEEDS, 100)),
        ),
    ],
)
def test_a_stage_posts_what_the_book_does_not_have_yet(moving, booked, stage, posted):
    assert build_legs(stage, moving, BookedPosition(booked), count_takeable=lambda _: 100) == posted


def test_money_that_came_back_before_it_was_heard_of_was_pending_and_is_not():
    assert BookedPosition(build_coming_and_going(CONTRIBUTION)).undone(PENDING) == ()


def test_money_that_arrives_in_a_frozen_account_is_applied_to_nothing_until_somebody_applies_it():
    legs = build_legs(Stage.SETTLED, CONTRIBUTION, BookedPosition(ON_ITS_WAY_IN), frozen=True)
    assert legs == (*NEVER_MIND, *swap(ARRIVED, SUBSCRIPTION, UNAPPLIED))


@pytest.mark.parametrize(
    ("credited", "takeable", "posted"),
    [
        # the money is still there
        (SUBSCRIPTION, {SUBSCRIPTION: 100, CASH: 100}, (debit(SUBSCRIPTION, 100), credit(CASH, 100))),
        # the offering has closed, and cash of others is left
        (
            SUBSCRIPTION,
            {SUBSCRIPTION: 0, CASH: 500},
            (debit(RECEIVABLE, 100), credit(CASH, 100)),
        ),
        # part of it is left
        (
            SUBSCRIPTION,
            {SUBSCRIPTION: 30, CASH: 500},
            (debit(SUBSCRIPTION, 30), debit(RECEIVABLE, 70), credit(CASH, 100)),
        ),
        # nothing is left: the bank took it all the same, so it has less than nothing of ours
        (SUBSCRIPTION, {SUBSCRIPTION: 0, CASH: 40}, (debit(RECEIVABLE, 100), credit(CASH, 100))),
        # it arrived while the account was frozen, and is not applied yet
        (UNAPPLIED, {UNAPPLIED: 100, CASH: 100}, (debit(UNAPPLIED, 100), credit(CASH, 100))),
        # it has been applied since
        (
            UNAPPLIED,
            {UNAPPLIED: 0, SUBSCRIPTION: 100, CASH: 100},
            (debit(SUBSCRIPTION, 100), credit(CASH, 100)),
        ),
        # it has been applied since, and what is not is other money of the party
        (
            UNAPPLIED,
            {UNAPPLIED: 100, SUBSCRIPTION: 100, CASH: 200},
            (debit(SUBSCRIPTION, 100), credit(CASH, 100)),
        ),
        # a part of it was
        (
            UNAPPLIED,
            {UNAPPLIED: 100, SUBSCRIPTION: 30, CASH: 200},
            (debit(SUBSCRIPTION, 30), debit(UNAPPLIED, 70), credit(CASH, 100)),
        ),
    ],
)
def test_a_late_return_is_never_refused_and_takes_from_cash_what_the_bank_took(credited, takeable, posted):
    booked = BookedPosition(swap(ARRIVED, SUBSCRIPTION, credited))
    assert (
        build_legs(Stage.RETURNED, CONTRIBUTION, booked, count_takeable=lambda account: takeable.get(account, 0))
        == posted
    )


@pytest.mark.parametrize(
    ("cash", "posted"),
    [(250, PAID_OUT), (100, PAID_OUT), (40, PAID_OUT), (0, PAID_OUT), (-5, PAID_OUT)],
)
def test_a_payout_that_settled_has_left_cash_whatever_a_bank_took_meanwhile(cash, posted):
    assert build_legs(Stage.SETTLED, PAYOUT, BookedPosition(SUBMITTED_OUT), count_takeable=lambda _: cash) == posted


def test_money_that_comes_back_from_a_frozen_account_is_taken_from_where_it_was_put():
    booked = BookedPosition(swap(ARRIVED, SUBSCRIPTION, UNAPPLIED))
    legs = build_legs(Stage.RETURNED, CONTRIBUTION, booked, frozen=True, count_takeable=lambda _: 100)
    assert legs == (debit(UNAPPLIED, 100), credit(CASH, 100))


@pytest.mark.parametrize("moving", [CONTRIBUTION, CASH_IN, PAYOUT, PROCEEDS])
@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_balances_in_each_layer(moving, stage):
    for booked in ((), ON_ITS_WAY_IN, ARRIVED, SUBMITTED_OUT, (*SUBMITTED_OUT, *PAID_OUT)):
        legs = build_legs(stage, moving, BookedPosition(booked), count_takeable=lambda _: 40)
        for layer in Layer:
            signed = [leg.amount_minor if leg.direction.value == "DEBIT" else -leg.amount_minor
                      for leg in legs if leg.layer is layer]  # fmt: skip
            assert sum(signed) == 0


@pytest.mark.parametrize(
    ("moving", "stage", "entry_type"),
    [
        (CONTRIBUTION, Stage.SETTLED, EntryType.DEPOSIT),
        (CASH_IN, Stage.SUBMITTED, EntryType.DEPOSIT),
        (CONTRIBUTION, Stage.RETURNED, EntryType.RETURN),
        (CONTRIBUTION, Stage.ENDED, EntryType.REVERSAL),
        (PAYOUT, Stage.SETTLED, EntryType.DISTRIBUTION),
        (PROCEEDS, Stage.SETTLED, EntryType.WITHDRAWAL),
        (Moving(TYPES["REFUND"], "inv-001", 1), Stage.SETTLED, EntryType.REFUND),
    ],
)
def test_an_entry_says_what_its_stage_makes_it(moving, stage, entry_type):
    assert type_of(stage, moving) is entry_type


def test_what_undoes_names_the_entry_it_undoes():
    history = [("je_in", ARRIVED), ("je_back", mirror(ARRIVED)), ("je_out", SUBMITTED_OUT), ("je_paid", PAID_OUT)]
    assert reversed_entry(Stage.RETURNED, history) == "je_out"
    assert reversed_entry(Stage.ENDED, history[:1]) == "je_in"
    assert reversed_entry(Stage.SETTLED, history) is None
    assert reversed_entry(Stage.ENDED, []) is None
