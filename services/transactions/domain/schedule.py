"""When things are due: the next attempt, the end of the return risk, finality. Banking days come from one calendar."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from fractions import Fraction

from services.chassis.values.calendar import add_banking_days

REPRESENT_BANKING_DAYS = 3
REPRESENT_AT = time(14, 0)  # UTC: before the day's ACH windows close
RETURN_RISK_BANKING_DAYS = 5
CONSUMER_RETURN_DAYS = 60
CREDIT_RETURN_BANKING_DAYS = 2

_CALL_BASE_MS, _CALL_CAP_MS = 500, 5_000
_CALL_TRIES = 8
_ATTEMPT_BASE_MS, _ATTEMPT_CAP_MS = 60_000, 6 * 3_600_000
_DOUBLINGS_MAX = 32
_POLL_BASE_MS, _POLL_CAP_MS = 2_000, 30_000
_WATCH_BASE_MS, _WATCH_CAP_MS = 60_000, 24 * 3_600_000


def backoff_ms(tries: int, jitter: Fraction) -> int:
    """How long to wait after so many tries (at least 1) with an unknown outcome.

    The first eight are quick (0.5 s doubling to 5 s: a provider that hiccups); then it is an outage, and the wait
    doubles from 60 s to 6 h. `jitter` is in [0, 1]: the wait is between half of that and all of it.
    """
    if tries <= _CALL_TRIES:
        whole = _doubled(_CALL_BASE_MS, tries - 1, _CALL_CAP_MS)
    else:
        whole = _doubled(_ATTEMPT_BASE_MS, tries - 1 - _CALL_TRIES, _ATTEMPT_CAP_MS)
    return whole // 2 + int(Fraction(whole, 2) * jitter)


def poll_ms(polls: int) -> int:
    """How long until a payment we have not heard of is looked up again."""
    return _doubled(_POLL_BASE_MS, polls, _POLL_CAP_MS)


def watch_ms(looks: int) -> int:
    """How long until a payment that arrived is looked up again: while it is not final, it may come back unheard."""
    return _doubled(_WATCH_BASE_MS, looks, _WATCH_CAP_MS)


def _doubled(base: int, doublings: int, cap: int) -> int:
    return min(cap, base << min(max(doublings, 0), _DOUBLINGS_MAX))


def represent_at(returned_at: datetime) -> datetime:
    """When a returned debit is presented again: the third banking day after the return."""
    day = add_banking_days(returned_at.astimezone(UTC).date(), REPRESENT_BANKING_DAYS)
    return datetime.combine(day, REPRESENT_AT, UTC)


def return_risk_end(settled_at: datetime) -> datetime:
    """Until when a settled debit is likely to be returned, and its money stays held: five banking days."""
    return _after_banking_days(settled_at, RETURN_RISK_BANKING_DAYS)


def final_at(settled_at: datetime, *, method: str, is_debit: bool) -> datetime:
    """From when the bank can no longer send it back.

    A consumer may disown an ACH debit for 60 calendar days, and so we treat a check; an ACH credit comes back within
    two banking days; a wire is final. Source: Nacha Operating Rules, Section 3.8 and Subsection 3.12; UCC 4A-405.
    """
    if method == "WIRE":
        return settled_at
    if is_debit:
        return settled_at + timedelta(days=CONSUMER_RETURN_DAYS)
    return _after_banking_days(settled_at, CREDIT_RETURN_BANKING_DAYS)


def _after_banking_days(moment: datetime, n: int) -> datetime:
    moment = moment.astimezone(UTC)
    return datetime.combine(add_banking_days(moment.date(), n), moment.timetz())
