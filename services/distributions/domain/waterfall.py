"""The distribution waterfall: who is paid what out of one distribution, tier by tier, and where that leaves everyone.

Guarantees: the lines sum to the distribution to the cent; the result does not depend on the order of the lots; a lot's
accrual is exact (what rounding gave or took stays, signed, in the accrual and is settled by the next payment);
the same facts replayed give the same result. Cents at the edges, exact rationals inside, no float.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from math import lcm
from typing import ClassVar, Final

from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.invariant import invariant
from services.chassis.values.money import allocate, spelled
from services.distributions.domain.terms import BPS, CAPITAL_FIRST, Terms, Tier

SPONSOR: Final = "SPONSOR"  # the payee that is not an investor; a sponsor's own contribution is an ordinary lot
_INVESTORS: Final = "LP"  # before SPONSOR in byte order: a tied cent goes to the investors
DAYS_IN_YEAR: Final = 365  # ACT/365 Fixed: actual days, 29 February among them, over 365 in leap years too


class NothingContributed(DomainError):
    """No capital was in the offering before the distribution's date, so nobody can be paid."""

    kind: ClassVar[Kind] = Kind.FAILED_PRECONDITION
    reason: ClassVar[str] = "NOTHING_TO_ALLOCATE"


class OutOfDateOrder(DomainError):
    """The distribution is dated before something already reckoned: an earlier distribution, or a contribution."""

    kind: ClassVar[Kind] = Kind.FAILED_PRECONDITION
    reason: ClassVar[str] = "DATE_OUT_OF_ORDER"


@dataclass(frozen=True, slots=True)
class Lot:
    """One contribution and what is still owed on it. The day it came in accrues; the day of a payment does not."""

    party_id: str
    lot_id: str
    contributed_on: date
    contributed: int  # minor units, as is unreturned
    unreturned: int
    accrued_preferred: Fraction  # earned and unpaid, minor units; a fraction of a cent below zero after rounding up
    accrued_through: date  # the first day not yet accrued

    @classmethod
    def opened(cls, party_id: str, lot_id: str, on: date, amount_minor: int) -> Lot:
        invariant(amount_minor > 0, f"lot {lot_id} contributes nothing")
        invariant(party_id != SPONSOR, f"{SPONSOR} is the name of the sponsor's carry, not of an investor")
        return cls(party_id, lot_id, on, amount_minor, amount_minor, Fraction(0), on)


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything paid since inception, in minor units."""

    return_of_capital: int = 0
    preferred_return: int = 0
    catch_up_investors: int = 0
    catch_up_sponsor: int = 0
    split_investors: int = 0
    split_sponsor: int = 0

    @property
    def sponsor_carry(self) -> int:
        return self.catch_up_sponsor + self.split_sponsor

    @property
    def investor_profit(self) -> int:
        return self.preferred_return + self.catch_up_investors + self.split_investors

    @property
    def profit(self) -> int:
        return self.investor_profit + self.sponsor_carry


@dataclass(frozen=True, slots=True)
class State:
    """Where an offering stands between two distributions. Empty at inception."""

    lots: tuple[Lot, ...] = ()
    totals: Totals = Totals()

    @property
    def contributed(self) -> int:
        return sum(lot.contributed for lot in self.lots)

    @property
    def unreturned(self) -> int:
        return sum(lot.unreturned for lot in self.lots)

    def contribute(self, lot: Lot) -> State:
        return replace(self, lots=(*self.lots, lot))


@dataclass(frozen=True, slots=True)
class Step:
    """What one tier met, demanded and paid; ``working`` says why in a sentence. Amounts in minor units."""

    tier: Tier
    available: int
    demanded: int
    investors: int
    sponsor: int
    working: str

    @property
    def paid(self) -> int:
        return self.investors + self.sponsor


@dataclass(frozen=True, slots=True)
class Line:
    """What one payee receives, by tier, in minor units. The sponsor's line has ``party_id`` SPONSOR."""

    party_id: str
    return_of_capital: int = 0
    preferred_return: int = 0
    catch_up: int = 0
    split: int = 0

    @property
    def total(self) -> int:
        return self.return_of_capital + self.preferred_return + self.catch_up + self.split


@dataclass(frozen=True, slots=True)
class Result:
    """One calculated distribution: ``lines`` in byte order of payee with the sponsor last, nobody with nothing."""

    on: date
    amount_minor: int
    steps: tuple[Step, ...]  # in the order of the terms; the readable trace
    lines: tuple[Line, ...]
    after: State

    def step(self, tier: Tier) -> Step | None:
        return next((step for step in self.steps if step.tier is tier), None)


def calculate(state: State, terms: Terms, amount_minor: int, on: date) -> Result:
    """Pays ``amount_minor`` through the tiers on the day ``on`` and tells where everyone stands after it.

    Rounding: a tier demands its exact sum, half-even; its cents go out by largest remainder (chassis ``allocate``).
    A lot takes part if it is dated before ``on``: on the same day a distribution precedes a contribution.
    Raises: NothingContributed, OutOfDateOrder.
    Source: docs/adr/0006.
    """
    invariant(amount_minor > 0, "a distribution pays something")
    reckoned = max((lot.accrued_through for lot in state.lots if lot.contributed_on < on), default=None)
    if reckoned is None:
        raise NothingContributed(f"No capital was contributed before {on}.", date=on.isoformat())
    if on < reckoned:
        raise OutOfDateOrder(
            f"The offering is reckoned through {reckoned}; a distribution cannot be dated {on}.",
            date=on.isoformat(),
            not_before=reckoned.isoformat(),
        )
    books = _Books(state, terms, on)
    left, steps = amount_minor, []
    for tier in terms.order:
        step = books.pay(tier, left)
        left -= step.paid
        steps.append(step)
    result = Result(on, amount_minor, tuple(steps), books.lines(), books.state())
    invariant(left == 0, "the waterfall left cash undistributed")
    invariant(sum(line.total for line in result.lines) == amount_minor, "the lines do not sum to the distribution")
    return result


class _Books:
    """The working copy of one calculation.

    Accruals are whole numbers of ``1/scale`` cent, ``scale`` being a common denominator of all of them: as exact as
    Fractions, without a greatest common divisor at every addition (a thousand lots in milliseconds).
    """

    def __init__(self, state: State, terms: Terms, on: date) -> None:
        self.terms, self.on, self.totals = terms, on, state.totals
        # An investor's lots together and the oldest first: that is the order in which each is paid.
        lots = sorted(state.lots, key=lambda lot: (lot.party_id, lot.contributed_on, lot.lot_id))
        self.lots = [lot for lot in lots if lot.contributed_on < on]
        self.later = [lot for lot in lots if lot.contributed_on >= on]
        daily = terms.preferred_rate / DAYS_IN_YEAR  # other day counts would give each lot its own year fraction here
        self.scale = lcm(daily.denominator, *(lot.accrued_preferred.denominator for lot in self.lots))
        daily_scaled = daily.numerator * (self.scale // daily.denominator)
        self.unreturned = [lot.unreturned for lot in self.lots]
        self.accrued = [
            lot.accrued_preferred.numerator * (self.scale // lot.accrued_preferred.denominator)
            + lot.unreturned * daily_scaled * (on - lot.accrued_through).days
            for lot in self.lots
        ]
        self.contributed = self._by_investor([lot.contributed for lot in self.lots])
        self.paid: dict[Tier, dict[str, int]] = {}  # payee → cents, sponsor included

    def pay(self, tier: Tier, available: int) -> Step:
        match tier:
            case Tier.RETURN_OF_CAPITAL:
                return self._return_capital(available)
            case Tier.PREFERRED_RETURN:
                return self._pay_preferred(available)
            case Tier.CATCH_UP:
                return self._catch_up(available)
            case Tier.SPLIT:
                return self._split(available)

    def _return_capital(self, available: int) -> Step:
        demanded = sum(self.unreturned)
        paid = min(available, demanded)
        lines = allocate(paid, self._by_investor(self.unreturned))
        left = dict(lines)
        for index, lot in enumerate(self.lots):
            returned = min(left[lot.party_id], self.unreturned[index])
            self.unreturned[index] -= returned
            left[lot.party_id] -= returned
        invariant(not any(left.values()), "more capital was returned than an investor had in")
        self.paid[Tier.RETURN_OF_CAPITAL] = lines
        self.totals = replace(self.totals, return_of_capital=self.totals.return_of_capital + paid)
        working = f"Unreturned capital is {spelled(demanded)}; {_met(paid, demanded)}, by unreturned capital."
        return Step(Tier.RETURN_OF_CAPITAL, available, demanded, paid, 0, working)

    def _pay_preferred(self, available: int) -> Step:
        owed = sum(self.accrued)
        demanded = max(0, round(Fraction(owed, self.scale)))  # round() of a Fraction is half-even
        paid = min(available, demanded)
        # Whom the last rounding favoured is owed less than nothing for a while: that is no claim, but it is not lost.
        claims = {payee: max(0, claim) for payee, claim in self._by_investor(self.accrued).items()}
        lines = allocate(paid, claims)
        left = {party_id: cents * self.scale for party_id, cents in lines.items()}
        for index, lot in enumerate(self.lots):
            last = index + 1 == len(self.lots) or self.lots[index + 1].party_id != lot.party_id
            due = left[lot.party_id]
            # The investor's newest lot takes the part of a cent that rounding gave or kept.
            taken = due if last else min(due, max(0, self.accrued[index]))
            self.accrued[index] -= taken
            left[lot.party_id] -= taken
        self.paid[Tier.PREFERRED_RETURN] = lines
        self.totals = replace(self.totals, preferred_return=self.totals.preferred_return + paid)
        rate = _percent(self.terms.preferred_rate * BPS)
        working = (
            f"{rate} a year, simple, ACT/365F, on unreturned capital has come to {spelled(demanded)} earned and unpaid "
            f"before {self.on}; {_met(paid, demanded)}, by what each is owed."
        )
        return Step(Tier.PREFERRED_RETURN, available, demanded, paid, 0, working)

    def _catch_up(self, available: int) -> Step:
        carry, share = self.terms.sponsor_carry_bps, self.terms.catch_up_sponsor_share_bps
        profit, has = self.totals.profit, self.totals.sponsor_carry
        # x such that (G + c·x) / (P + x) = s: after it the sponsor holds exactly its share of all profit paid.
        demanded = max(0, round(Fraction(carry * profit - has * BPS, share - carry)))
        paid = min(available, demanded)
        investors, sponsor = self._divide(Tier.CATCH_UP, paid, share)
        self.totals = replace(
            self.totals,
            catch_up_investors=self.totals.catch_up_investors + investors,
            catch_up_sponsor=self.totals.catch_up_sponsor + sponsor,
        )
        working = (
            f"To hold {_percent(carry)} of the profit, {spelled(profit)} so far with {spelled(has)} of it the "
            f"sponsor's, takes {spelled(demanded)} at {_percent(share)} to the sponsor; {_met(paid, demanded)}."
        )
        return Step(Tier.CATCH_UP, available, demanded, investors, sponsor, working)

    def _split(self, available: int) -> Step:
        carry = self.terms.sponsor_carry_bps
        investors, sponsor = self._divide(Tier.SPLIT, available, carry)
        self.totals = replace(
            self.totals,
            split_investors=self.totals.split_investors + investors,
            split_sponsor=self.totals.split_sponsor + sponsor,
        )
        working = (
            f"The rest, {spelled(available)}: {_percent(BPS - carry)} to investors by contributed capital, "
            f"{_percent(carry)} to the sponsor."
        )
        return Step(Tier.SPLIT, available, available, investors, sponsor, working)

    def _divide(self, tier: Tier, paid: int, sponsor_bps: int) -> tuple[int, int]:
        """Divides a profit tier between the two sides, and the investors' side by contributed capital."""
        sides = allocate(paid, {_INVESTORS: BPS - sponsor_bps, SPONSOR: sponsor_bps})
        investors, sponsor = sides[_INVESTORS], sides[SPONSOR]
        self.paid[tier] = {**allocate(investors, self.contributed), SPONSOR: sponsor}
        return investors, sponsor

    def _by_investor(self, values: list[int]) -> dict[str, int]:
        sums: dict[str, int] = {}
        for lot, value in zip(self.lots, values, strict=True):
            sums[lot.party_id] = sums.get(lot.party_id, 0) + value
        return sums

    def lines(self) -> tuple[Line, ...]:
        capital, preferred, catch_up, split = (self.paid.get(tier, {}) for tier in CAPITAL_FIRST)
        payees = [*self.contributed, SPONSOR]  # the lots are sorted, so the investors come in byte order
        lines = (
            Line(payee, capital.get(payee, 0), preferred.get(payee, 0), catch_up.get(payee, 0), split.get(payee, 0))
            for payee in payees
        )
        return tuple(line for line in lines if line.total)

    def state(self) -> State:
        lots = (
            Lot(
                lot.party_id,
                lot.lot_id,
                lot.contributed_on,
                lot.contributed,
                self.unreturned[index],
                Fraction(self.accrued[index], self.scale),
                self.on,
            )
            for index, lot in enumerate(self.lots)
        )
        return State((*lots, *self.later), self.totals)


def _percent(bps: int | Fraction) -> str:
    exact = Fraction(bps) / 100
    return f"{exact} %" if (exact * 100).denominator > 1 else f"{spelled(int(exact * 100))} %"


def _met(paid: int, demanded: int) -> str:
    if demanded == 0:
        return "nothing to pay"
    return "paid in full" if paid == demanded else f"{spelled(paid)} of it paid"


@dataclass(frozen=True, slots=True)
class Distributed:
    """An earlier distribution as a fact. ``order`` is its own where it differs from the terms' (operating cash)."""

    on: date
    amount_minor: int
    order: tuple[Tier, ...] | None = None


def replay(
    contributions: Iterable[Lot], distributions: Iterable[Distributed], terms: Terms
) -> tuple[State, tuple[Result, ...]]:
    """The state after all these facts, from nothing, and the result of each distribution on the way.

    ``contributions`` are lots in any condition: only what opened them is read. Within a day distributions come first,
    in the order given.
    """
    state = State(
        tuple(Lot.opened(lot.party_id, lot.lot_id, lot.contributed_on, lot.contributed) for lot in contributions)
    )
    results = []
    for past in sorted(distributions, key=lambda past: past.on):
        result = calculate(state, replace(terms, order=past.order or terms.order), past.amount_minor, past.on)
        results.append(result)
        state = result.after
    return state, tuple(results)
