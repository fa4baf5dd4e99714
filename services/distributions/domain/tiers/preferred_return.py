"""The tier that pays the preferred return: simple, cumulative, ACT/365F, on unreturned capital."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from services.chassis.values.money import allocate
from services.distributions.domain.books import Books, Step, describe_payment, spell_percent


@dataclass(frozen=True, slots=True)
class PreferredReturn:
    kind: ClassVar[str] = "PREFERRED_RETURN"
    claim: ClassVar[str] = "preferred return owed"
    pays_profit: ClassVar[bool] = True

    rate: Fraction = Fraction(8, 100)  # a year

    def find_faults(self, sponsor_share: object) -> dict[str, str]:
        # Beyond 100 % a year the number is a typing error, not an agreement.
        return {} if 0 <= self.rate <= 1 else {"rate": "must lie between 0 and 1, which is 100 % a year"}

    def pay(self, books: Books, available: int) -> Step:
        owed = books.sum_accrued()
        demanded = max(0, round(owed))  # round() of a Fraction is half-even
        paid = min(available, demanded)
        claims = books.list_accrued()
        investors = allocate(paid, claims)
        books.pay_accrued(investors)
        statement = (
            f"{spell_percent(self.rate)} a year, simple, ACT/365F, on unreturned capital has come to "
            f"{books.spell(demanded)} earned and unpaid before {books.on}; {describe_payment(books, paid, demanded)}, "
            "by what each is owed."
        )
        return Step(
            kind=self.kind,
            available=available,
            demanded=demanded,
            investors_by_party=investors,
            sponsor=0,
            claims=claims,
            explanation=books.explain(
                self.kind,
                statement,
                ("rate a year", spell_percent(self.rate)),
                (self.claim, demanded),
                ("available", available),
            ),
            claim_scale=books.scale,
        )
