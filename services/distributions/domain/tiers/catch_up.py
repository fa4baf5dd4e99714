"""The tier that pays the sponsor until it holds its share of all profit."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from services.distributions.domain.capital_accounts import CapitalAccounts, Step, describe_payment, spell_percent


@dataclass(frozen=True, slots=True)
class CatchUp:
    kind: ClassVar[str] = "CATCH_UP"
    claim: ClassVar[str] = "contributed capital"
    pays_profit: ClassVar[bool] = True

    sponsor_share: Fraction = Fraction(1)  # of this tier; 1 is a full catch-up

    def find_faults(self, sponsor_share: Fraction) -> dict[str, str]:
        """`sponsor_share` is that of the split: the aim of the catch-up."""
        if not 0 < self.sponsor_share <= 1:
            return {"sponsor_share": "must be more than 0 and at most 1"}
        # At a share equal to its aim the sponsor would never reach it; below it, it falls back.
        if self.sponsor_share <= sponsor_share:
            return {"sponsor_share": "must be more than the sponsor_share of the split, or the catch-up never ends"}
        return {}

    def pay(self, accounts: CapitalAccounts, available: int) -> Step:
        aim, share = accounts.sponsor_share, self.sponsor_share
        profit, held = accounts.totals.profit, accounts.totals.sponsor_carry
        # x such that (held + share·x) / (profit + x) = aim: after it the sponsor holds exactly its share of all profit.
        demanded = max(0, round((aim * profit - held) / (share - aim)))
        paid = min(available, demanded)
        statement = (
            f"To hold {spell_percent(aim)} of the profit, {accounts.spell(profit)} so far with "
            f"{accounts.spell(held)} of it the sponsor's, takes {accounts.spell(demanded)} at {spell_percent(share)} "
            f"to the sponsor; {describe_payment(accounts, paid, demanded)}."
        )
        explanation = accounts.explain(
            self.kind,
            statement,
            ("profit paid so far", profit),
            ("of it to the sponsor", held),
            ("sponsor's share of the profit", spell_percent(aim)),
            ("sponsor's share of this tier", spell_percent(share)),
            ("available", available),
        )
        return accounts.divide(self.kind, available, demanded, share, explanation)
