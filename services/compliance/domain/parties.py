"""What a party is, what a change of it puts in question, and for whom the limits hold."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from services.compliance.domain.clearance import REQUIRED_CHECKS

INVESTOR, SPONSOR = "INVESTOR", "SPONSOR"
NON_ACCREDITED = "NON_ACCREDITED"
PERSONS_MAX = 100


@dataclass(frozen=True, slots=True)
class Facts:
    """What checks of a party rest on."""

    kind: str
    legal_name: str
    roles: frozenset[str]
    accreditation: str


def list_questions(before: Facts | None, after: Facts) -> tuple[str, ...]:
    """The checks to ask a person again; `before` is None for a new party."""
    if before is None or (before.kind, before.legal_name) != (after.kind, after.legal_name):
        return REQUIRED_CHECKS
    # Whom the limits hold for rests on these two: nobody lifts them alone.
    if (before.roles, before.accreditation) != (after.roles, after.accreditation):
        return ("KYC",)
    return ()


def has_limits(roles: Collection[str], accreditation: str) -> bool:
    """True for an investor who is not accredited, also one who sponsors something, too."""
    return INVESTOR in roles and accreditation == NON_ACCREDITED
