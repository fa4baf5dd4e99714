"""The working copy of one calculation: what the tiers read, and how they pay.

Accruals are whole numbers of `1/scale` cent, `scale` being a common denominator of all of them: as exact as Fractions,
without a greatest common divisor at every addition (a thousand lots in milliseconds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from math import lcm
from typing import Final

from services.chassis.values.explanation import Explanation
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money, allocate, spell_money
from services.distributions.domain.lots import SPONSOR, Lot, State

DAYS_IN_YEAR: Final = 365  # ACT/365 Fixed: actual days, 29 February among them, over 365 in leap years too
_INVESTORS: Final = "LP"  # before SPONSOR in byte order: a tied cent goes to the investors
AGREEMENT: Final = "The offering's operating agreement"


@dataclass(frozen=True, slots=True)
class Step:
    """What one tier had to pay with, was to pay, and paid. Amounts in minor units."""

    kind: str
    available: int
    demanded: int
    investors_by_party: Mapping[str, int]
    sponsor: int
    explanation: Explanation
    # By which the investors' side was divided, by party, in `1/claim_scale` of a minor unit. Not compared: which scale
    # serves depends on the way to the state, not on the state.
    claims: Mapping[str, int] = field(compare=False)
    claim_scale: int = field(default=1, compare=False)

    @property
    def investors(self) -> int:
        return sum(self.investors_by_party.values())

    @property
    def paid(self) -> int:
        return self.investors + self.sponsor

    def claim_minor(self, party_id: str) -> int:
        """The claim of an investor, rounded to a minor unit: for a person to read."""
        # Integers alone: a large distribution asks thousands of times.
        return (2 * self.claims[party_id] + self.claim_scale) // (2 * self.claim_scale)


class CapitalAccounts:
    """
    Args:
        preferred_rate: A year.
        sponsor_share: The sponsor's share of profit.
        currency: Of all amounts; explanations name it.
    """

    def __init__(
        self, state: State, preferred_rate: Fraction, sponsor_share: Fraction, on: date, currency: str
    ) -> None:
        self.on, self.totals, self.sponsor_share, self.currency = on, state.totals, sponsor_share, currency
        # An investor's lots together and the oldest first: that is the order in which each is paid.
        lots = sorted(state.lots, key=lambda lot: (lot.party_id, lot.contributed_on, lot.lot_id))
        self.lots = [lot for lot in lots if lot.contributed_on < on]
        self.later = [lot for lot in lots if lot.contributed_on >= on]
        daily = preferred_rate / DAYS_IN_YEAR  # other day counts would give each lot its own year fraction here
        self.scale = lcm(daily.denominator, *(lot.accrued_preferred.denominator for lot in self.lots))
        daily_scaled = daily.numerator * (self.scale // daily.denominator)
        self.unreturned = [lot.unreturned for lot in self.lots]
        self._accrued = [
            lot.accrued_preferred.numerator * (self.scale // lot.accrued_preferred.denominator)
            + lot.unreturned * daily_scaled * (on - lot.accrued_through).days
            for lot in self.lots
        ]
        self.contributed = self.sum_by_investor([lot.contributed for lot in self.lots])

    def sum_by_investor(self, values: list[int]) -> dict[str, int]:
        """The values of the lots, summed by investor."""
        sums: dict[str, int] = {}
        for lot, value in zip(self.lots, values, strict=True):
            sums[lot.party_id] = sums.get(lot.party_id, 0) + value
        return sums

    def sum_accrued(self) -> Fraction:
        """The preferred return earned and unpaid, in minor units."""
        return Fraction(sum(self._accrued), self.scale)

    def list_accrued(self) -> dict[str, int]:
        """What each investor is owed, in `1/scale` of a minor unit."""
        # After a rounding in its favour an investor is owed less than nothing. That is no claim, but it is kept.
        return {party_id: max(0, owed) for party_id, owed in self.sum_by_investor(self._accrued).items()}

    def return_capital(self, investors: Mapping[str, int]) -> None:
        """Takes what each investor is paid off its lots, the oldest first."""
        left = dict(investors)
        for index, lot in enumerate(self.lots):
            returned = min(left[lot.party_id], self.unreturned[index])
            self.unreturned[index] -= returned
            left[lot.party_id] -= returned
        invariant(not any(left.values()), "more capital was returned than an investor had in")

    def pay_accrued(self, investors: Mapping[str, int]) -> None:
        """Takes what each investor is paid off the accruals of its lots, the oldest first."""
        left = {party_id: cents * self.scale for party_id, cents in investors.items()}
        for index, lot in enumerate(self.lots):
            last = index + 1 == len(self.lots) or self.lots[index + 1].party_id != lot.party_id
            due = left[lot.party_id]
            # The investor's newest lot takes the part of a cent that rounding gave or kept.
            taken = due if last else min(due, max(0, self._accrued[index]))
            self._accrued[index] -= taken
            left[lot.party_id] -= taken

    def divide(
        self, kind: str, available: int, demanded: int, sponsor_share: Fraction, explanation: Explanation
    ) -> Step:
        """The step of a tier that both sides share: the investors' side is divided by contributed capital."""
        sides = allocate(min(available, demanded), {_INVESTORS: 1 - sponsor_share, SPONSOR: sponsor_share})
        return Step(
            kind=kind,
            available=available,
            demanded=demanded,
            investors_by_party=allocate(sides[_INVESTORS], self.contributed),
            sponsor=sides[SPONSOR],
            claims=self.contributed,
            explanation=explanation,
        )

    def explain(self, rule: str, statement: str, *operands: tuple[str, int | str]) -> Explanation:
        """The explanation of a step; operands that are numbers are amounts."""
        values = tuple(
            (name, Money(value, self.currency) if isinstance(value, int) else value) for name, value in operands
        )
        return Explanation(statement, rule, values, AGREEMENT)

    def spell(self, amount_minor: int) -> str:
        """For a person to read."""
        return spell_money(amount_minor, self.currency)

    def list_lots(self) -> tuple[Lot, ...]:
        """Every lot after the payments, those that came too late for them among them."""
        lots = (
            Lot(
                lot.party_id,
                lot.lot_id,
                lot.contributed_on,
                lot.contributed,
                self.unreturned[index],
                Fraction(self._accrued[index], self.scale),
                self.on,
            )
            for index, lot in enumerate(self.lots)
        )
        return (*lots, *self.later)


def spell_percent(share: Fraction) -> str:
    """`2/25` -> `8.00 %`; what has more than two places is spelled as the fraction it is: `25/3 %`."""
    percent = share * 100
    if (percent * 100).denominator > 1:
        return f"{percent} %"
    whole, hundredths = divmod(int(percent * 100), 100)
    return f"{whole}.{hundredths:02d} %"


def describe_payment(accounts: CapitalAccounts, paid: int, demanded: int) -> str:
    if demanded == 0:
        return "nothing to pay"
    return "paid in full" if paid == demanded else f"{accounts.spell(paid)} of it paid"
