"""The tier that gives contributed capital back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.chassis.values.money import allocate
from services.distributions.domain.capital_accounts import CapitalAccounts, Step, describe_payment


@dataclass(frozen=True, slots=True)
class ReturnOfCapital:
    kind: ClassVar[str] = "RETURN_OF_CAPITAL"
    claim: ClassVar[str] = "unreturned capital"
    pays_profit: ClassVar[bool] = False

    def find_faults(self, sponsor_share: object) -> dict[str, str]:
        return {}

    def pay(self, accounts: CapitalAccounts, available: int) -> Step:
        claims = accounts.sum_by_investor(accounts.unreturned)
        demanded = sum(claims.values())
        paid = min(available, demanded)
        investors = allocate(paid, claims)
        accounts.return_capital(investors)
        statement = (
            f"Unreturned capital is {accounts.spell(demanded)}; {describe_payment(accounts, paid, demanded)}, "
            "by unreturned capital."
        )
        return Step(
            kind=self.kind,
            available=available,
            demanded=demanded,
            investors_by_party=investors,
            sponsor=0,
            claims=claims,
            explanation=accounts.explain(self.kind, statement, (self.claim, demanded), ("available", available)),
        )
