"""What holds for every waterfall, whatever the terms, the lots and the payments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from services.distributions.domain.lots import Lot, State
from services.distributions.domain.terms import CAPITAL_FIRST, Terms
from services.distributions.domain.tiers.catch_up import CatchUp
from services.distributions.domain.tiers.preferred_return import PreferredReturn
from services.distributions.domain.tiers.return_of_capital import ReturnOfCapital
from services.distributions.domain.tiers.split import Split
from services.distributions.domain.waterfall import Result, calculate
from tests.support.waterfall import Distributed, open_lot, replay

START = date(2024, 1, 1)
cents = st.integers(1, 10**9)
BPS = 10_000
KINDS = [tier.kind for tier in CAPITAL_FIRST]


@st.composite
def any_terms(draw: st.DrawFn, *, full_catch_up: bool = False) -> Terms:
    carry = draw(st.integers(0, BPS - 1))
    share = BPS if full_catch_up else draw(st.integers(carry + 1, BPS))
    rate = draw(st.one_of(st.integers(0, 3_000), st.fractions(0, 3_000, max_denominator=9)))
    capital, preferred = ReturnOfCapital(), PreferredReturn(Fraction(rate) / BPS)
    catch_up, split = CatchUp(Fraction(share, BPS)), Split(Fraction(carry, BPS))
    orders = [(capital, preferred, catch_up, split), (preferred, capital, catch_up, split)]
    return Terms(draw(st.sampled_from(orders if full_catch_up else [*orders, (capital, preferred, split)])))


@st.composite
def some_lots(draw: st.DrawFn) -> list[Lot]:
    """A few lots of a few investors, some of whom come back; the first is there from the start."""
    days = [0, *draw(st.lists(st.integers(0, 700), max_size=7))]
    investors = st.integers(1, 4)
    return [
        open_lot(f"inv-{draw(investors)}", f"lot-{number}", START + timedelta(days=day), draw(cents))
        for number, day in enumerate(days)
    ]


payments = st.lists(st.tuples(st.integers(1, 1_400), cents), min_size=1, max_size=5).map(
    lambda pairs: [Distributed(START + timedelta(days=day), amount) for day, amount in sorted(pairs)]
)


def paid_by_tier(results: Sequence[Result]) -> dict[str, int]:
    return {kind: sum(s.paid for result in results for s in result.steps if s.kind == kind) for kind in KINDS}


@given(some_lots(), payments, any_terms())
def test_every_cent_is_paid_once_and_no_line_is_negative(lots, paid, terms):
    state, results = replay(lots, paid, terms)
    for result in results:
        assert sum(line.total for line in result.lines) == result.amount_minor == sum(s.paid for s in result.steps)
        for line in result.lines:
            assert min(line.amounts) >= 0
        for index, step in enumerate(result.steps):
            assert sum(line.amounts[index] for line in result.lines) == step.paid
    returned = sum(lot.contributed - lot.unreturned for lot in state.lots)
    assert returned == state.totals.return_of_capital == paid_by_tier(results)["RETURN_OF_CAPITAL"]
    assert returned + state.totals.profit == sum(distributed.amount_minor for distributed in paid)
    assert all(0 <= lot.unreturned <= lot.contributed for lot in state.lots)


# Three claims of 3,272.5005 cents in all are paid 3,273: the one of 3,162.963 cents gets 3,164.
ROUNDED_UP_TWICE = (
    [
        open_lot("inv-1", "lot-0", START, 230),
        open_lot("inv-3", "lot-1", START + timedelta(days=387), 1_185),
        open_lot("inv-2", "lot-2", START + timedelta(days=109), 1_224),
        open_lot("inv-3", "lot-3", START + timedelta(days=163), 33_142),
        open_lot("inv-1", "lot-4", START, 1),
    ],
    [Distributed(START + timedelta(days=day), paid) for day, paid in ((2, 230), (210, 21_694), (999, 3_273))],
    Terms((PreferredReturn(Fraction(5_373, 50_000)), ReturnOfCapital(), CatchUp(Fraction(1, BPS)), Split(Fraction(0)))),
)


@given(some_lots(), payments, any_terms())
@example(*ROUNDED_UP_TWICE)
def test_preferred_return_is_never_lost_and_never_overpaid_by_more_than_two_roundings(lots, paid, terms):
    """What was ever earned, reckoned independently day by day, is what was paid and what is still owed.

    The tier's sum is rounded to the cent (half a cent at most), and each line of it once more (less than a cent).
    """
    earned, preferred_paid, state = Fraction(0), 0, State(tuple(lots))
    for distributed in paid:
        for lot in state.lots:
            days = max(0, (distributed.on - lot.accrued_through).days)
            earned += lot.unreturned * days * terms.preferred_rate / 365
        result = calculate(state, terms, distributed.amount_minor, distributed.on, "USD")
        state, preferred_paid = result.after, preferred_paid + paid_by_tier([result])["PREFERRED_RETURN"]
    owed = sum((lot.accrued_preferred for lot in state.lots), Fraction(0))
    assert earned == preferred_paid + owed
    assert owed >= Fraction(-1, 2)
    by_investor: dict[str, Fraction] = {}
    for lot in state.lots:
        by_investor[lot.party_id] = by_investor.get(lot.party_id, Fraction(0)) + lot.accrued_preferred
    assert all(owed_to_one > Fraction(-3, 2) for owed_to_one in by_investor.values())


@given(some_lots(), payments, any_terms(), st.randoms())
def test_the_order_in_which_lots_are_listed_does_not_matter(lots, paid, terms, random):
    shuffled = random.sample(lots, len(lots))
    state, results = replay(lots, paid, terms)
    state_shuffled, results_shuffled = replay(shuffled, paid, terms)
    assert set(state.lots) == set(state_shuffled.lots)
    assert state.totals == state_shuffled.totals
    assert [(r.steps, r.lines) for r in results] == [(r.steps, r.lines) for r in results_shuffled]


@given(some_lots(), payments, any_terms(), cents, cents, st.integers(0, 700))
def test_more_cash_never_lowers_a_tier(lots, paid, terms, amount, more, days):
    state, _ = replay(lots, paid, terms)
    on = paid[-1].on + timedelta(days=days)
    less, greater = (calculate(state, terms, each, on, "USD") for each in (amount, amount + more))
    for low, high in zip(less.steps, greater.steps, strict=True):
        assert low.investors <= high.investors
        assert low.sponsor <= high.sponsor


@given(some_lots(), payments, any_terms(full_catch_up=True))
def test_until_a_full_catch_up_is_complete_the_sponsor_has_no_more_than_its_share(lots, paid, terms):
    state, was_split = State(tuple(lots)), False
    for distributed in paid:
        result = calculate(state, terms, distributed.amount_minor, distributed.on, "USD")
        state, (catch_up, split) = result.after, result.steps[2:]
        was_split = was_split or split.paid > 0
        if not was_split and catch_up.paid < catch_up.demanded:
            assert state.totals.sponsor_carry <= terms.sponsor_share * state.totals.profit


@given(some_lots(), any_terms(full_catch_up=True), st.integers(1, 1_000))
def test_after_a_full_catch_up_and_split_the_sponsor_has_its_share_to_the_cent(lots, terms, days):
    on = max(lot.contributed_on for lot in lots) + timedelta(days=days)
    state = calculate(State(tuple(lots)), terms, 10**12, on, "USD").after
    assert abs(state.totals.sponsor_carry - terms.sponsor_share * state.totals.profit) <= 1


@given(some_lots(), any_terms(), st.integers(1, 10), cents)
def test_two_half_years_without_a_payment_are_one_year(lots, terms, tenths, amount):
    """A look at the accrual half-way (as a quote or a restart does it) changes nothing afterwards."""
    entered = max(lot.contributed_on for lot in lots)
    on = entered + timedelta(days=365)
    half_way = entered + timedelta(days=36 * tenths)
    looked = tuple(
        replace(
            lot,
            accrued_preferred=lot.unreturned * terms.preferred_rate * (half_way - lot.contributed_on).days / 365,
            accrued_through=half_way,
        )
        for lot in lots
    )
    assert calculate(State(looked), terms, amount, on, "USD") == calculate(State(tuple(lots)), terms, amount, on, "USD")


@given(some_lots(), payments, any_terms())
def test_replaying_the_facts_gives_what_step_by_step_gave(lots, paid, terms):
    state, results = State(), []
    for distributed in paid:
        known = {lot.lot_id for lot in state.lots}
        for lot in lots:  # each contribution is booked when it happens, not in advance
            if lot.lot_id not in known and lot.contributed_on < distributed.on:
                state = replace(state, lots=(*state.lots, lot))
        results.append(calculate(state, terms, distributed.amount_minor, distributed.on, "USD"))
        state = results[-1].after
    replayed, results_replayed = replay(lots, paid, terms)
    assert [(r.steps, r.lines) for r in results] == [(r.steps, r.lines) for r in results_replayed]
    assert replayed.totals == state.totals
    assert set(state.lots) <= set(replayed.lots)
    assert replay(replayed.lots, paid, terms) == (replayed, results_replayed)
