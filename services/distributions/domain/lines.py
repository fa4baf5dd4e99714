"""The lines of an allocation: what each tier pays to one payee, and why."""

from __future__ import annotations

from fractions import Fraction

from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money, spell_money
from services.distributions.domain.capital_accounts import AGREEMENT, Step
from services.distributions.domain.distribution import AllocationLine
from services.distributions.domain.lots import SPONSOR
from services.distributions.domain.tiers import KINDS
from services.distributions.domain.waterfall import Line


def list_lines(line: Line, steps: tuple[Step, ...], claims: tuple[int, ...]) -> tuple[AllocationLine, ...]:
    """What each tier pays to the payee of `line`; `claims` are those of all investors, by tier, in minor units."""
    found = []
    for index, (amount, step) in enumerate(zip(line.amounts, steps, strict=True)):
        if not amount:
            continue
        if line.party_id == SPONSOR:
            found.append(AllocationLine(index, step.kind, amount, None, step.paid))
        else:
            found.append(AllocationLine(index, step.kind, amount, step.claim_minor(line.party_id), claims[index]))
    return tuple(found)


def sum_claims(steps: tuple[Step, ...]) -> tuple[int, ...]:
    """What all investors claim of each tier, in minor units."""
    return tuple(round(Fraction(sum(step.claims.values()), step.claim_scale)) for step in steps)


def explain_line(line: AllocationLine, currency: str) -> Explanation:
    """Why a tier pays this payee this much. It says nothing of what the others get but the payee's share."""
    amount, claim = spell_money(line.amount_minor, currency), KINDS[line.kind].claim
    if line.claim_minor is None:
        share = _spell_share(line.amount_minor, line.claims_minor)
        statement = f"{amount}, {share} of what this tier pays, is the sponsor's."
        return Explanation(statement, line.kind, (("sponsor's share", share),), AGREEMENT)
    share = _spell_share(line.claim_minor, line.claims_minor)
    claimed = Money(line.claim_minor, currency)
    statement = f"{amount}, in proportion to {claim}: {claimed}, {share} of all investors'."
    return Explanation(statement, line.kind, ((claim, claimed), ("share", share)), AGREEMENT)


def _spell_share(part: int, whole: int) -> str:
    """To a hundredth of a percent. Integers alone: a large distribution has thousands of these."""
    hundredths = (20_000 * part + whole) // (2 * whole)
    return f"{hundredths // 100}.{hundredths % 100:02d} %"
