"""The waterfall against worked examples, to the cent, and its rules one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from services.chassis.values.errors import Kind
from services.chassis.values.money import allocate
from services.distributions.domain.capital_accounts import Step
from services.distributions.domain.lots import SPONSOR, Lot, State
from services.distributions.domain.refusals import NothingContributed, OutOfDateOrder, TermsInvalid
from services.distributions.domain.terms import CAPITAL_FIRST, Terms, build_terms, list_tiers
from services.distributions.domain.tiers import Tier
from services.distributions.domain.tiers.catch_up import CatchUp
from services.distributions.domain.tiers.preferred_return import PreferredReturn
from services.distributions.domain.tiers.split import Split
from services.distributions.domain.waterfall import Result, calculate
from tests.support.waterfall import Distributed, open_lot, replay

CASES = Path(__file__).parents[1] / "cases"
EIGHT_AND_THIRTY = Terms()
CAPITAL, PREFERRED, CATCH_UP, SPLIT = CAPITAL_FIRST
PREFERRED_FIRST = Terms((PREFERRED, CAPITAL, CATCH_UP, SPLIT))  # operating cash


def load(name: str) -> dict[str, Any]:
    return json.loads((CASES / f"waterfall_{name}.json").read_text())


def terms_of(case: dict[str, Any]) -> Terms:
    return build_terms(case["terms"])


def lots_of(case: dict[str, Any]) -> list[Lot]:
    return [
        open_lot(party_id, f"lot-{number:03}", date.fromisoformat(day), cents)
        for number, (party_id, day, cents) in enumerate(case["contributions"])
    ]


def assert_as_expected(result: Result, expected: dict[str, Any]) -> None:
    assert {step.kind: [step.investors, step.sponsor] for step in result.steps} == expected["tiers"]
    # The examples name the tiers in one order, whatever the order in which they are paid.
    places = [[step.kind for step in result.steps].index(tier.kind) for tier in CAPITAL_FIRST]
    lines = {line.party_id: [line.amounts[place] for place in places] for line in result.lines}
    assert lines == expected["lines"]
    assert {lot.party_id: lot.unreturned for lot in result.after.lots} == expected["unreturned"]
    unpaid = {lot.party_id: str(lot.accrued_preferred) for lot in result.after.lots}
    assert unpaid == expected["unpaid_preferred"]


def assert_cumulative(state: State, expected: dict[str, Any]) -> None:
    assert state.totals.sponsor_carry == expected["sponsor_carry"]
    assert state.totals.investor_profit == expected["investor_profit"]
    assert Fraction(state.totals.sponsor_carry, state.totals.profit) == Fraction(expected["sponsor_share"])


@pytest.mark.parametrize("name", ["full_stack", "staggered_entries", "half_catch_up"])
def test_a_worked_example_comes_out_to_the_cent(name):
    case = load(name)
    assert case["day_count"] == "ACT/365F"
    paid = [Distributed(date.fromisoformat(d["date"]), d["amount_minor"]) for d in case["distributions"]]
    state, results = replay(lots_of(case), paid, terms_of(case))
    for result, expected in zip(results, case["distributions"], strict=True):
        assert_as_expected(result, expected)
    assert_cumulative(state, case["cumulative"])


def test_fractions_of_a_cent_are_carried_through_twelve_months_and_never_dropped():
    case = load("many_small_investors")
    assert case["day_count"] == "30/360"
    terms = terms_of(case)
    state = State(tuple(lots_of(case)))
    for expected in case["distributions"]:
        on = date.fromisoformat(expected["date"])
        # The example accrues 30/360, a twelfth of a year each month. The test accrues so by hand and the waterfall
        # has no day left to accrue: what is proved is what it does with the fractions.
        state = replace(
            state,
            lots=tuple(
                replace(
                    lot,
                    accrued_preferred=lot.accrued_preferred + lot.unreturned * terms.preferred_rate / 12,
                    accrued_through=on,
                )
                for lot in state.lots
            ),
        )
        result = calculate(state, terms, expected["amount_minor"], on, "USD")
        assert_as_expected(result, expected)
        assert all(abs(lot.accrued_preferred) < 1 for lot in result.after.lots)
        state = result.after
    assert_cumulative(state, case["cumulative"])


@pytest.mark.parametrize(
    ("amount", "weights", "shares"),
    [
        (9999, {"A": 75, "B": 25}, {"A": 7499, "B": 2500}),
        (1003, {"a-49": 49, "b-51": 51}, {"a-49": 491, "b-51": 512}),
        (5, {"p1": 100, "p2": 101, "p3": 100, "p4": 100}, {"p1": 1, "p2": 2, "p3": 1, "p4": 1}),
        (
            613,
            {"p1": 98, "p2": 92, "p3": 98, "p4": 123, "p5": 102, "p6": 92},
            {"p1": 99, "p2": 93, "p3": 99, "p4": 125, "p5": 104, "p6": 93},
        ),
        (22000, {"x1": 445455, "x2": 9091, "x3": 545455}, {"x1": 9800, "x2": 200, "x3": 12000}),
        (10000, {"inv-b": 1, "inv-c": 1, "inv-a": 1}, {"inv-a": 3334, "inv-b": 3333, "inv-c": 3333}),
        (1, {"inv-2": 1, "inv-1": 1}, {"inv-1": 1, "inv-2": 0}),
        (1, {"A": 33, "B": 66}, {"A": 0, "B": 1}),
        (
            7,
            {f"inv-{n:03}": 1 for n in range(1, 16)},
            {f"inv-{n:03}": int(n <= 7) for n in range(1, 16)},
        ),
    ],
)
def test_missing_cents_go_to_the_largest_remainders_and_ties_to_the_smaller_id(amount, weights, shares):
    assert allocate(amount, weights) == shares


@pytest.mark.parametrize(
    ("given", "agreed"),
    [
        ([], ["8/100", "1", "3/10"]),
        (
            [("RETURN_OF_CAPITAL", {}), ("PREFERRED_RETURN", {}), ("CATCH_UP", {}), ("SPLIT", {})],
            ["8/100", "1", "3/10"],
        ),
        (
            [
                ("RETURN_OF_CAPITAL", {}),
                ("PREFERRED_RETURN", {}),
                ("CATCH_UP", {"sponsor_share": "0.5"}),
                ("SPLIT", {}),
            ],
            ["8/100", "1/2", "3/10"],
        ),
        (
            [("RETURN_OF_CAPITAL", {}), ("PREFERRED_RETURN", {"rate": "0"}), ("CATCH_UP", {}), ("SPLIT", {})],
            ["0", "1", "3/10"],  # zero is said, and is no absence
        ),
    ],
)
def test_what_terms_do_not_say_is_the_documented_default_and_never_zero(
    given: list[tuple[str, dict[str, str]]], agreed: list[str]
) -> None:
    _, preferred, catch_up, split = build_terms(given).tiers
    assert isinstance(preferred, PreferredReturn)
    assert isinstance(catch_up, CatchUp)
    assert isinstance(split, Split)
    assert [preferred.rate, catch_up.sponsor_share, split.sponsor_share] == [Fraction(each) for each in agreed]


def test_terms_are_kept_with_every_parameter_as_an_exact_decimal() -> None:
    assert list_tiers(
        build_terms([("RETURN_OF_CAPITAL", {}), ("PREFERRED_RETURN", {"rate": "0.083333"}), ("SPLIT", {})])
    ) == [
        ("RETURN_OF_CAPITAL", {}),
        ("PREFERRED_RETURN", {"rate": "0.083333"}),
        ("SPLIT", {"sponsor_share": "0.3"}),
    ]


@pytest.mark.parametrize(
    ("tiers", "field"),
    [
        ((CAPITAL, PREFERRED, CatchUp(Fraction(3001, 10_000)), SPLIT), None),
        # At this share the sponsor would never reach its own.
        ((CAPITAL, PREFERRED, CatchUp(Fraction(3, 10)), SPLIT), "tiers[2].catch_up.sponsor_share"),
        ((CAPITAL, PREFERRED, CatchUp(Fraction(0)), SPLIT), "tiers[2].catch_up.sponsor_share"),
        ((CAPITAL, PREFERRED, CatchUp(Fraction(10_001, 10_000)), SPLIT), "tiers[2].catch_up.sponsor_share"),
        ((CAPITAL, PREFERRED, SPLIT), None),
        ((CAPITAL, PREFERRED, CATCH_UP, Split(Fraction(0))), None),
        ((CAPITAL, PREFERRED, CATCH_UP, Split(Fraction(-1, 10_000))), "tiers[3].split.sponsor_share"),
        ((CAPITAL, PREFERRED, SPLIT, Split(Fraction(1))), "tiers"),
        ((CAPITAL, PREFERRED, Split(Fraction(1))), "tiers[2].split.sponsor_share"),
        ((CAPITAL, PreferredReturn(Fraction(0)), SPLIT), None),
        ((CAPITAL, PreferredReturn(Fraction(1, 12)), SPLIT), None),  # 8 1/3 %
        ((CAPITAL, PreferredReturn(Fraction(-1, 10_000)), SPLIT), "tiers[1].preferred_return.rate"),
        ((CAPITAL, PreferredReturn(Fraction(10_001, 10_000)), SPLIT), "tiers[1].preferred_return.rate"),
        ((PREFERRED, CAPITAL, CATCH_UP, SPLIT), None),
        ((), "tiers"),
        ((PREFERRED, CATCH_UP, SPLIT), "tiers"),  # capital would never come back
        ((SPLIT, CAPITAL, PREFERRED, CATCH_UP), "tiers"),  # the split leaves nothing to those after it
        ((CATCH_UP, CAPITAL, PREFERRED, SPLIT), "tiers"),
    ],
)
def test_terms_that_make_no_sense_are_refused_by_field(tiers: tuple[Tier, ...], field: str | None) -> None:
    if field is None:
        Terms(tiers)
        return
    with pytest.raises(TermsInvalid) as refused:
        Terms(tiers)
    assert (refused.value.kind, refused.value.reason) == (Kind.INVALID_ARGUMENT, "TERMS_INVALID")
    assert field in refused.value.fields
    assert refused.value.metadata == {}


def step_of(result: Result, kind: str) -> Step:
    return next(step for step in result.steps if step.kind == kind)


def one_lot(party_id: str, day: str, cents: int, lot_id: str = "lot-1") -> Lot:
    return open_lot(party_id, lot_id, date.fromisoformat(day), cents)


@pytest.mark.parametrize(
    ("contributed_on", "paid_on", "accrued"),
    [
        ("2027-03-15", "2027-03-16", 2_192),  # one day: the day of entry counts, the day of payment does not
        ("2025-01-01", "2026-01-01", 800_000),
        ("2028-01-01", "2029-01-01", 802_192),  # 366 days over 365: the leap day is a day like any other
    ],
)
def test_preferred_return_counts_the_days_between_entry_and_payment(contributed_on, paid_on, accrued):
    state = State((one_lot("inv-1", contributed_on, 100_000_00),))
    result = calculate(state, EIGHT_AND_THIRTY, 200_000_00, date.fromisoformat(paid_on), "USD")
    assert step_of(result, "PREFERRED_RETURN").demanded == accrued


def test_within_an_investor_the_oldest_lot_is_paid_first():
    state = State((one_lot("inv-1", "2025-06-01", 50_00, "lot-1"), one_lot("inv-1", "2025-01-01", 50_00, "lot-2")))
    after = calculate(state, EIGHT_AND_THIRTY, 70_00, date(2025, 12, 1), "USD").after
    assert [(lot.lot_id, lot.unreturned) for lot in after.lots] == [("lot-2", 0), ("lot-1", 30_00)]


def test_a_contribution_of_the_same_day_comes_after_the_distribution():
    early, same_day = one_lot("inv-1", "2025-01-01", 100_00), one_lot("inv-2", "2026-01-01", 100_00)
    result = calculate(State((same_day, early)), EIGHT_AND_THIRTY, 300_00, date(2026, 1, 1), "USD")
    assert {line.party_id for line in result.lines} == {"inv-1", SPONSOR}
    assert same_day in result.after.lots


def test_without_a_catch_up_the_sponsor_shares_only_in_the_rest():
    terms = Terms((CAPITAL, PREFERRED, SPLIT))
    result = calculate(State((one_lot("inv-1", "2025-01-01", 100_00),)), terms, 208_00, date(2026, 1, 1), "USD")
    assert [(step.paid, step.sponsor) for step in result.steps] == [(100_00, 0), (8_00, 0), (100_00, 30_00)]


def test_a_cent_tied_between_the_sides_goes_to_the_investors():
    terms = Terms((CAPITAL, PreferredReturn(Fraction(0)), CATCH_UP, Split(Fraction(1, 2))))
    result = calculate(State((one_lot("inv-1", "2025-01-01", 100),)), terms, 101, date(2026, 1, 1), "USD")
    split = step_of(result, "SPLIT")
    assert (split.investors, split.sponsor) == (1, 0)


def test_replay_takes_the_facts_in_the_order_of_their_days_and_each_with_its_own_terms():
    sale, rent = Distributed(date(2026, 6, 1), 50_00), Distributed(date(2026, 1, 1), 10_00, PREFERRED_FIRST)
    state, results = replay([one_lot("inv-1", "2025-01-01", 100_00)], [sale, rent], EIGHT_AND_THIRTY)
    assert [(result.on, result.lines[0].amounts[:2]) for result in results] == [
        (rent.on, (8_00, 2_00)),
        (sale.on, (50_00, 0)),
    ]
    assert [lot.unreturned for lot in state.lots] == [48_00]


def test_each_step_says_in_a_sentence_what_it_did():
    case = load("full_stack")
    result = calculate(State(tuple(lots_of(case))), terms_of(case), 260_000_00, date(2026, 1, 1), "USD")
    assert [step.explanation.statement for step in result.steps] == [
        "Unreturned capital is 200,000.00 USD; paid in full, by unreturned capital.",
        (
            "8.00 % a year, simple, ACT/365F, on unreturned capital has come to 16,000.00 USD earned and unpaid before "
            "2026-01-01; paid in full, by what each is owed."
        ),
        (
            "To hold 30.00 % of the profit, 16,000.00 USD so far with 0.00 USD of it the sponsor's, takes 6,857.14 USD "
            "at 100.00 % to the sponsor; paid in full."
        ),
        "The rest, 37,142.86 USD: 70.00 % to investors by contributed capital, 30.00 % to the sponsor.",
    ]


def test_nothing_is_distributed_where_nothing_was_contributed():
    with pytest.raises(NothingContributed):
        calculate(State((one_lot("inv-1", "2026-01-01", 1),)), EIGHT_AND_THIRTY, 1, date(2026, 1, 1), "USD")


def test_a_distribution_is_not_dated_before_the_last_one():
    state, _ = replay([one_lot("inv-1", "2025-01-01", 100_00)], [Distributed(date(2026, 1, 1), 1)], EIGHT_AND_THIRTY)
    assert calculate(state, EIGHT_AND_THIRTY, 1, date(2026, 1, 1), "USD").amount_minor == 1
    with pytest.raises(OutOfDateOrder) as refused:
        calculate(state, EIGHT_AND_THIRTY, 1, date(2025, 12, 31), "USD")
    assert refused.value.metadata["earliest_distribution_date"] == "2026-01-01"
