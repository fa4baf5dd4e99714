"""When money may come from a bank account, and when it may go to it."""

from __future__ import annotations

from datetime import datetime, timedelta

# Whoever owns an account hears that it was confirmed, and has a day to say that it is not theirs. A house rule.
COOL_DOWN = timedelta(hours=24)

PENDING, ACTIVE, BLOCKED, DELETED = "PENDING", "ACTIVE", "BLOCKED", "DELETED"
LIVE = frozenset({PENDING, ACTIVE})


def is_usable(status: str, *, is_debit: bool) -> bool:
    """Whether money may come from it, or go to it. A debit needs no second person: its bank can take it back."""
    return status in LIVE if is_debit else status == ACTIVE


def compute_payout_start(confirmed_at: datetime | None) -> datetime | None:
    """From when money goes to an account; None for one that is not confirmed."""
    return None if confirmed_at is None else confirmed_at + COOL_DOWN


def is_cooling_down(confirmed_at: datetime | None, now: datetime) -> bool:
    return confirmed_at is not None and now < confirmed_at + COOL_DOWN
