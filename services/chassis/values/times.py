"""Which times there are: what goes into a store and comes back as it went in, with room to count days and zones.

PostgreSQL and Python keep whole microseconds. The years at both ends of the calendar are left out, because a zone or
a deadline counted from there leads out of it.
"""

from __future__ import annotations

from datetime import UTC, datetime

YEAR_MIN, YEAR_MAX = 1900, 9998
TIME_RULE = f"must be a time between the years {YEAR_MIN} and {YEAR_MAX}, to the microsecond"
DATE_RULE = f"must be a day of the calendar between the years {YEAR_MIN} and {YEAR_MAX}"


def read_time(text: object) -> datetime:
    """The instant of an ISO 8601 text from outside, in UTC. What is finer than a microsecond is cut off.

    Raises:
        ValueError: it is none, names no zone, or lies outside of the years.
    """
    moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    if moment is None or moment.tzinfo is None or not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise ValueError(TIME_RULE)
    return moment.astimezone(UTC)


def write_time(moment: datetime) -> str:
    """The instant as REST spells one, RFC 3339 in UTC: `2026-01-31T17:00:00Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
