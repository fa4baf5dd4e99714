"""The waterfall against a second one, written from the definitions alone and as plainly as it can be.

It keeps sums by investor instead of lots, accrues each investor's capital, and knows nothing of common denominators:
so a slip in either shows as a difference, to the cent, whatever the terms, the lots and the payments.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.distributions.domain.lots import SPONSOR, Lot
from services.distributions.domain.terms import Terms
from services.distributions.domain.tiers import Tier
from services.distributions.domain.tiers.catch_up import CatchUp
from services.distributions.domain.tiers.preferred_return import PreferredReturn
from services.distributions.domain.tiers.return_of_capital import ReturnOfCapital
from services.distributions.domain.tiers.split import Split
from services.distributions.domain.waterfall import calculate
from tests.support.waterfall import Distributed, open_lot, replay

START = date(2023, 12, 31)  # the first days of a leap year follow
LARGEST = 2**62 - 1
Lines = dict[str, dict[str, int]]


def in_proportion(amount: int, weights: dict[str, Fraction]) -> dict[str, int]:
    """Largest remainder: whole cents first, then one each by remainder, by id where remainders are equal."""
    whole = sum(weights.values())
    quotas = {key: Fraction(amount) * weight / whole for key, weight in weights.items()} if amount else {}
    shares = {key: int(quota) for key, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda key: (shares[key] - quotas[key], key.encode()))
    for key in by_remainder[: amount - sum(shares.values())]:
        shares[key] += 1
    return shares


def half_even(exact: Fraction) -> int:
    floor = exact.numerator // exact.denominator
    rest = exact - floor
    return floor + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1))


class Plain:
    """One offering: who has how much in, who is owed how much, and what was paid to whom."""

    def __init__(self, lots: Iterable[Lot], terms: Terms) -> None:
        self.lots, self.terms, self.day = list(lots), terms, START
        self.returned: dict[str, int] = {}
        self.owed: dict[str, Fraction] = {}
        self.profit = self.carry = 0

    def capital(self, before: date) -> dict[str, int]:
        found: dict[str, int] = {}
        for lot in self.lots:
            if lot.contributed_on < before:
                found[lot.party_id] = found.get(lot.party_id, 0) + lot.contributed
        return found

    def pay(self, amount: int, on: date) -> Lines:
        self.accrue(on)
        lines: Lines = {}
        for tier in self.terms.tiers:
            paid = self.tier(tier, amount, on)
            amount -= sum(paid.values())
            for payee, cents in paid.items():
                if cents:
                    lines.setdefault(payee, {})[tier.kind] = cents
        assert amount == 0
        return lines

    def accrue(self, on: date) -> None:
        """A day at a time: the day a contribution comes in counts, the day of a payment does not."""
        while self.day < on:
            for investor, capital in self.capital(self.day + timedelta(days=1)).items():
                unreturned = capital - self.returned.get(investor, 0)
                earned = unreturned * self.terms.preferred_rate / 365
                self.owed[investor] = self.owed.get(investor, Fraction(0)) + earned
            self.day += timedelta(days=1)

    def tier(self, tier: Tier, cash: int, on: date) -> dict[str, int]:
        capital = self.capital(on)
        if isinstance(tier, ReturnOfCapital):
            unreturned = {key: Fraction(cents - self.returned.get(key, 0)) for key, cents in capital.items()}
            paid = in_proportion(min(cash, int(sum(unreturned.values()))), unreturned)
            for key, cents in paid.items():
                self.returned[key] = self.returned.get(key, 0) + cents
            return paid
        if isinstance(tier, PreferredReturn):
            demanded = max(0, half_even(sum(self.owed.values(), Fraction(0))))
            paid = in_proportion(min(cash, demanded), {key: max(Fraction(0), owed) for key, owed in self.owed.items()})
            for key, cents in paid.items():
                self.owed[key] -= cents
            self.profit += sum(paid.values())
            return paid
        carry, share = self.terms.sponsor_share, tier.sponsor_share
        if isinstance(tier, CatchUp):
            cash = min(cash, max(0, half_even((carry * self.profit - self.carry) / (share - carry))))
        sponsor = cash * share
        to_sponsor = int(sponsor) + (sponsor - int(sponsor) > Fraction(1, 2))  # half a cent goes to the investors
        self.profit += cash
        self.carry += to_sponsor
        return {**in_proportion(cash - to_sponsor, {k: Fraction(c) for k, c in capital.items()}), SPONSOR: to_sponsor}


@st.composite
def terms_in_basis_points(draw: st.DrawFn) -> Terms:
    carry = draw(st.sampled_from([0, 1, 2_000, 3_000, 9_999]))
    share = draw(st.sampled_from([carry + 1, max(carry + 1, 5_000), 10_000]))
    capital = ReturnOfCapital()
    preferred = PreferredReturn(Fraction(draw(st.sampled_from([0, 1, 800, 833, 10_000])), 10_000))
    catch_up, split = CatchUp(Fraction(share, 10_000)), Split(Fraction(carry, 10_000))
    orders = [(capital, preferred, catch_up, split), (preferred, capital, catch_up, split), (capital, preferred, split)]
    return Terms(draw(st.sampled_from(orders)))


@st.composite
def lots(draw: st.DrawFn, amounts: st.SearchStrategy[int]) -> list[Lot]:
    """Some are equal, so that cents are tied; some investors come back; the first lot is there from the start."""
    days = [1, *draw(st.lists(st.integers(0, 90), max_size=5))]
    return [
        open_lot(f"inv-{draw(st.integers(8, 11))}", f"lot-{n}", START + timedelta(days=day), draw(amounts))
        for n, day in enumerate(days)
    ]


def payments(amounts: st.SearchStrategy[int]) -> st.SearchStrategy[list[Distributed]]:
    """Several on one day among them."""
    pairs = st.lists(st.tuples(st.integers(2, 120), amounts), min_size=1, max_size=6)
    return pairs.map(lambda found: [Distributed(START + timedelta(days=d), a) for d, a in sorted(found)])


small = st.one_of(st.sampled_from([1, 100]), st.integers(1, 1_000))
large = st.one_of(st.sampled_from([LARGEST, LARGEST // 3, 1]), st.integers(1, LARGEST))
middling = st.one_of(st.sampled_from([1, 10_000]), st.integers(1, 10**6))
DEFAULT = Terms()
ONE_LOT = [open_lot("inv-8", "lot-0", date(2024, 1, 1), 100_000_00)]


def assert_equal(found: list[Lot], paid: list[Distributed], terms: Terms) -> None:
    state, results = replay(found, paid, terms)
    plain = Plain(found, terms)
    for result in results:
        expected = plain.pay(result.amount_minor, result.on)
        lines = {
            line.party_id: dict(zip((tier.kind for tier in terms.tiers), line.amounts, strict=True))
            for line in result.lines
        }
        assert {payee: {kind: c for kind, c in line.items() if c} for payee, line in lines.items()} == expected
    owed: dict[str, Fraction] = {}
    for lot in state.lots:
        owed[lot.party_id] = owed.get(lot.party_id, Fraction(0)) + lot.accrued_preferred
    assert {key: value for key, value in owed.items() if value} == {k: v for k, v in plain.owed.items() if v}


@st.composite
def payments_that_end_anywhere(draw: st.DrawFn, found: list[Lot], terms: Terms) -> list[Distributed]:
    """Each ends within a tier, or a cent before or after its end; which tier is drawn."""
    paid: list[Distributed] = []
    for day in sorted(draw(st.lists(st.integers(2, 120), min_size=1, max_size=6))):
        on = START + timedelta(days=day)
        state, _ = replay(found, paid, terms)
        steps = calculate(state, terms, 10**12, on, "USD").steps
        last = draw(st.integers(0, len(steps) - 1))
        before, within = sum(step.paid for step in steps[:last]), min(steps[last].demanded, 10**6)
        paid.append(Distributed(on, max(1, before + draw(st.integers(-1, within + 1)))))
    return paid


@given(st.data(), lots(middling), terms_in_basis_points())
def test_it_pays_what_a_plain_reading_of_the_rules_pays(data: st.DataObject, found: list[Lot], terms: Terms) -> None:
    assert_equal(found, data.draw(payments_that_end_anywhere(found, terms)), terms)


@pytest.mark.parametrize(
    "paid",
    [
        [(date(2024, 2, 29), 100_000_00), (date(2024, 3, 1), 1)],
        [(date(2024, 2, 28), 1), (date(2024, 3, 1), 10**8), (date(2024, 3, 1), 1), (date(2025, 3, 1), 10**8)],
        [(date(2024, 1, 2), LARGEST)],
    ],
)
def test_a_leap_day_and_several_payments_on_one_day_are_no_exception(paid: list[tuple[date, int]]) -> None:
    assert_equal(ONE_LOT, [Distributed(on, amount) for on, amount in paid], DEFAULT)


@given(lots(large), payments(large), terms_in_basis_points())
def test_it_is_exact_up_to_the_largest_amount_there_is(found: list[Lot], paid: list[Distributed], terms: Terms) -> None:
    assert_equal(found, paid, terms)


@given(lots(small), payments(small), terms_in_basis_points())
def test_an_investor_has_its_capital_back_oldest_lot_first(
    found: list[Lot], paid: list[Distributed], terms: Terms
) -> None:
    state, _ = replay(found, paid, terms)
    last = paid[-1].on
    for investor in {lot.party_id for lot in state.lots}:
        mine = [lot for lot in state.lots if lot.party_id == investor and lot.contributed_on < paid[0].on]
        mine.sort(key=lambda lot: (lot.contributed_on, lot.lot_id))
        for older, newer in pairwise(mine):
            assert older.unreturned == 0 or newer.unreturned == newer.contributed
    assert all(lot.unreturned == lot.contributed for lot in state.lots if lot.contributed_on >= last)
