"""The tier that pays the preferred return: simple, cumulative, ACT/365F, on unreturned capital."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from services.chassis.values.money import allocate
from services.distributions.domain.capital_accounts import CapitalAccounts, Step, describe_payment, spell_percent


@dataclass(frozen=True, slots=True)
class PreferredReturn:
    kind: ClassVar[str] = "PREFERRED_RETURN"
    claim: ClassVar[str] = "preferred return owed"
    pays_profit: ClassVar[bool] = True

    rate: Fraction = Fraction(8, 100)  # a year

    def find_faults(self, sponsor_share: object) -> dict[str, str]:
        # Beyond 100 % a year the number is a typing error, not an agreement.
        return {} if 0 <= self.rate <= 1 else {"rate": "must lie between 0 and 1, which is 100 % a year"}

    def pay(self, accounts: CapitalAccounts, available: int) -> Step:
        owed = accounts.sum_accrued()
        demanded = max(0, round(owed))  # round() of a Fraction is half-even
        paid = min(available, demanded)
        claims = accounts.list_accrued()
        investors = allocate(paid, claims)
        accounts.pay_accrued(investors)
        statement = (
            f"{spell_percent(self.rate)} a year, simple, ACT/365F, on unreturned capital has come to "
            f"{accounts.spell(demanded)} earned and unpaid before {accounts.on}; "
            f"{describe_payment(accounts, paid, demanded)}, by what each is owed."
        )
        return Step(
            kind=self.kind,
            available=available,
            demanded=demanded,
            investors_by_party=investors,
            sponsor=0,
            claims=claims,
            explanation=accounts.explain(
                self.kind,
                statement,
                ("rate a year", spell_percent(self.rate)),
                (self.claim, demanded),
                ("available", available),
            ),
            claim_scale=accounts.scale,
        )
