"""When things are due: attempts, looks, the end of the return risk, finality. Banking days come from one calendar."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from services.chassis.values.calendar import add_banking_days
from services.transactions.domain.rails import Period, Rail

# When a returned debit is presented again.
REPRESENT_AFTER = Period(
    "ACH_REPRESENTMENT",
    days=3,
    is_banking_days=True,
    source="Nacha Operating Rules, Subsection 2.13.4 allows it twice within 180 days; the day is a house rule",
)
# How long a person may have an attempt made again that ended: later its payer does not expect it any more.
RETRY_WITHIN = Period(
    "RETRY_WINDOW", days=5, is_banking_days=True, source="house rule: what is asked for later is ordered anew"
)
REPRESENT_AT = time(14, 0)  # UTC: before the day's ACH windows close

_DOUBLINGS_MAX = 32
_POLL_BASE_MS, _POLL_CAP_MS = 2_000, 30_000
_LOOK_AFTER_LEAST, _LOOK_AFTER_MOST = timedelta(minutes=1), timedelta(days=1)


def compute_poll_ms(polls: int) -> int:
    """How long until a payment without news is looked up again."""
    return min(_POLL_CAP_MS, _POLL_BASE_MS << min(max(polls, 0), _DOUBLINGS_MAX))


def compute_next_look(
    looked_at: datetime, rail: Rail, settled_at: datetime, return_risk_end_at: datetime | None, final_at: datetime
) -> datetime:
    """When a payment that arrived is next to be looked at: until it is final, the bank may take it back.

    Ever more rarely, from once a minute to once a day, and whenever a time is over; where no provider can be asked,
    only then.
    """
    ends = [end for end in (return_risk_end_at, final_at) if end is not None and end > looked_at]
    if rail.is_confirmed_by_a_person and ends:
        return min(ends)
    pause = min(max(looked_at - settled_at, _LOOK_AFTER_LEAST), _LOOK_AFTER_MOST)
    return min([looked_at + pause, *ends])


def compute_represent_at(returned_at: datetime) -> datetime:
    """When a returned debit is presented again: the third banking day after the return."""
    return datetime.combine(add_period(REPRESENT_AFTER, returned_at).date(), REPRESENT_AT, UTC)


def compute_announcement_end(
    announced_at: datetime, rail: Rail, *, is_inbound: bool, corrected_at: datetime | None = None
) -> datetime | None:
    """Until when what is only announced is waited for; None where a provider tells what becomes of it.

    Args:
        corrected_at: When somebody said what came, if so. It gives the time anew once: nobody puts an end off for ever.
    """
    if not is_inbound or rail.announced_for is None:
        return None
    end = add_period(rail.announced_for, announced_at)
    if corrected_at is None:
        return end
    return min(add_period(rail.announced_for, corrected_at), add_period(rail.announced_for, end))


def compute_return_risk_end(settled_at: datetime, rail: Rail, *, is_inbound: bool) -> datetime | None:
    """Until when a settled debit is likely to be returned, and its money stays held; None where nothing is."""
    return add_period(rail.return_risk, settled_at) if is_inbound and rail.return_risk else None


def compute_final_at(settled_at: datetime, rail: Rail, *, is_inbound: bool) -> datetime:
    """From when the bank can no longer send it back, and all that it sent back in time has been read."""
    period = rail.period_of_return(is_inbound=is_inbound)
    if period is None:
        return settled_at
    end = add_period(period, settled_at)
    if not period.ends_by_file:
        return end
    last = end.date() if period.is_banking_days else add_banking_days(end.date(), 1)
    return datetime.combine(last + timedelta(days=1), time(), UTC)


def add_period(period: Period, start: datetime) -> datetime:
    """The end of a period: the same time of day, so many days or banking days later."""
    start = start.astimezone(UTC)
    if not period.is_banking_days:
        return start + timedelta(days=period.days)
    return datetime.combine(add_banking_days(start.date(), period.days), start.timetz())
