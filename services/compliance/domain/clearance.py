"""Whether money of a party may move: each required check PASSED, and not too long ago. Anything else is no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

REQUIRED_CHECKS = ("KYC", "OFAC")
# A person's answer is good for a year; then it is asked again. A house rule: no statute sets the interval.
VALIDITY = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Check:
    """The latest check of one type."""

    status: str
    expires_at: datetime | None


def effective_status(check: Check | None, now: datetime) -> str:
    """The status as it counts at `now`: a PASSED that ran out is EXPIRED, no check at all is PENDING."""
    if check is None:
        return "PENDING"
    if check.status == "PASSED" and check.expires_at is not None and check.expires_at <= now:
        return "EXPIRED"
    return check.status


def missing(checks: Mapping[str, Check], now: datetime) -> tuple[str, ...]:
    """The required checks that are not PASSED, in words; empty if the party is cleared."""
    statuses = ((name, effective_status(checks.get(name), now)) for name in REQUIRED_CHECKS)
    return tuple(f"{name} is {status}" for name, status in statuses if status != "PASSED")
