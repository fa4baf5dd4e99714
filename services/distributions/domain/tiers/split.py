"""The last tier: it divides all that is left between investors and sponsor."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from services.distributions.domain.capital_accounts import CapitalAccounts, Step, spell_percent


@dataclass(frozen=True, slots=True)
class Split:
    kind: ClassVar[str] = "SPLIT"
    claim: ClassVar[str] = "contributed capital"
    pays_profit: ClassVar[bool] = True

    sponsor_share: Fraction = Fraction(3, 10)

    def find_faults(self, sponsor_share: object) -> dict[str, str]:
        if 0 <= self.sponsor_share < 1:
            return {}
        return {"sponsor_share": "must be at least 0 and less than 1: investors keep some of the profit"}

    def pay(self, accounts: CapitalAccounts, available: int) -> Step:
        statement = (
            f"The rest, {accounts.spell(available)}: {spell_percent(1 - self.sponsor_share)} to investors by "
            f"contributed capital, {spell_percent(self.sponsor_share)} to the sponsor."
        )
        explanation = accounts.explain(
            self.kind,
            statement,
            ("available", available),
            ("sponsor's share of this tier", spell_percent(self.sponsor_share)),
        )
        return accounts.divide(self.kind, available, available, self.sponsor_share, explanation)
