"""What a party is, what a change of it puts in question, and for whom the limits hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta

from services.chassis.values.explanation import Explanation
from services.compliance.domain import clearance

INVESTOR, SPONSOR = "INVESTOR", "SPONSOR"
NON_ACCREDITED = "NON_ACCREDITED"
PERSONS_MAX = 100
# So that whom somebody acts for fits one answer (`GET /me`), and is known at each call.
PARTIES_MAX = 1000
# Whoever stops acting for a party decides for so long nothing that it gains from.
INTEREST_LASTS = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Facts:
    """What checks of a party rest on."""

    kind: str
    legal_name: str
    roles: frozenset[str]
    accreditation: str


def list_questions(before: Facts, after: Facts) -> dict[str, Explanation]:
    """The checks to ask a person again, each with why."""
    changed = {fact.name for fact in fields(Facts) if getattr(before, fact.name) != getattr(after, fact.name)}
    return {
        required.check_type: _explain_changed([name for name in required.rests_on if name in changed])
        for required in clearance.REQUIRED_CHECKS
        if changed.intersection(required.rests_on)
    }


def _explain_changed(names: Sequence[str]) -> Explanation:
    """Names of facts only: what they were and are is personal data, and an explanation is told in events."""
    spelled = ", ".join(name.replace("_", " ") for name in names)
    source = "house rule: a check is about the facts that were checked"
    return Explanation(f"The party's facts changed: {spelled}.", "FACTS", (("changed", spelled),), source)


def has_limits(roles: Collection[str], accreditation: str) -> bool:
    """True for an investor who is not accredited, also one who sponsors something, too."""
    return INVESTOR in roles and accreditation == NON_ACCREDITED
