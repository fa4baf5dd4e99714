"""Where an offering stands between two distributions: each contribution, and what has been paid since inception."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from typing import Final

SPONSOR: Final = "SPONSOR"  # the payee that is not an investor; a sponsor's own contribution is an ordinary lot


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


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything paid since inception, in minor units."""

    return_of_capital: int = 0
    investor_profit: int = 0
    sponsor_carry: int = 0

    @property
    def profit(self) -> int:
        return self.investor_profit + self.sponsor_carry

    def add(self, investors: int, sponsor: int, *, is_profit: bool) -> Totals:
        if not is_profit:
            return replace(self, return_of_capital=self.return_of_capital + investors)
        return replace(
            self,
            investor_profit=self.investor_profit + investors,
            sponsor_carry=self.sponsor_carry + sponsor,
        )


@dataclass(frozen=True, slots=True)
class State:
    """Empty at inception."""

    lots: tuple[Lot, ...] = ()
    totals: Totals = Totals()
