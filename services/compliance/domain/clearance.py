"""Whether money of a party may move: each required check PASSED, and not too long ago. Anything else is no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.chassis.values.explanation import Explanation

REQUIRED_CHECKS = ("KYC", "OFAC")
# A person's answer is good for a year; then it is asked again. A house rule: no statute sets the interval.
VALIDITY = timedelta(days=365)
_SOURCE = "house rule: a person passes each check, and the answer is good for 365 days"


@dataclass(frozen=True, slots=True)
class Check:
    """The latest check of one type."""

    status: str
    expires_at: datetime | None


# What is missing of a party nobody has heard of.
UNKNOWN: tuple[Explanation, ...] = (Explanation("there is no such party", "PARTY", source=_SOURCE),)


def effective_status(check: Check | None, now: datetime) -> str:
    """The status as it counts at `now`: a PASSED that ran out is EXPIRED, no check at all is PENDING."""
    if check is None:
        return "PENDING"
    if check.status == "PASSED" and check.expires_at is not None and check.expires_at <= now:
        return "EXPIRED"
    return check.status


def list_missing(checks: Mapping[str, Check], now: datetime) -> tuple[Explanation, ...]:
    """Each required check that is not PASSED; empty if the party is cleared."""
    statuses = ((name, effective_status(checks.get(name), now)) for name in REQUIRED_CHECKS)
    return tuple(
        Explanation(f"{name} is {status}", name, (("check", name), ("status", status)), _SOURCE)
        for name, status in statuses
        if status != "PASSED"
    )


def spell_missing(missing: tuple[Explanation, ...]) -> str:
    """All of them in one line."""
    return "; ".join(one.statement for one in missing)


def may_review(status: str, written_by: str, reviewer: str) -> bool:
    """Whether the check waits for a person, and this one is another than who wrote what it is about."""
    return status == "MANUAL_REVIEW" and written_by != reviewer
