"""Banking days: when the Federal Reserve's payment systems settle.

Saturdays, Sundays and the Federal Reserve's holidays are no banking days. A holiday on a Saturday is not moved to
Friday; one on a Sunday is kept on Monday. Source: Federal Reserve Banks, Holiday Schedules (frbservices.org);
5 U.S.C. 6103(a). Why the holidays are in a table here: ADR 46.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from typing import Final

from services.chassis.values.invariant import invariant

_ONE_DAY: Final = timedelta(days=1)
_MONDAY, _THURSDAY, _SATURDAY, _SUNDAY = 0, 3, 5, 6
# (month, day, the first year that has it)
_ON_A_DATE: Final = (
    (1, 1, 1),  # New Year's Day
    (6, 19, 2021),  # Juneteenth: Public Law 117-17
    (7, 4, 1),  # Independence Day
    (11, 11, 1),  # Veterans Day
    (12, 25, 1),  # Christmas Day
)
# (month, weekday, how many of these come before it in the month)
_ON_A_WEEKDAY: Final = (
    (1, _MONDAY, 2),  # Birthday of Martin Luther King, Jr.
    (2, _MONDAY, 2),  # Washington's Birthday
    (9, _MONDAY, 0),  # Labor Day
    (10, _MONDAY, 1),  # Columbus Day
    (11, _THURSDAY, 3),  # Thanksgiving Day
)


def is_banking_day(day: date) -> bool:
    return day.weekday() < _SATURDAY and day not in _list_holidays(day.year)


@cache
def _list_holidays(year: int) -> frozenset[date]:
    """As they are kept."""
    fixed = (date(year, month, day) for month, day, since in _ON_A_DATE if year >= since)
    kept = {day + _ONE_DAY if day.weekday() == _SUNDAY else day for day in fixed}
    kept |= {_find_weekday(date(year, month, 1), weekday, before) for month, weekday, before in _ON_A_WEEKDAY}
    return frozenset({*kept, _find_weekday(date(year, 5, 31 - 6), _MONDAY, 0)})  # Memorial Day: the last Monday of May


def _find_weekday(first: date, weekday: int, before: int) -> date:
    """From `first` on, the one that so many come before."""
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * before)


def add_banking_days(day: date, n: int) -> date:
    """The n-th banking day after `day` (before it, when n is negative).

    `day` itself is not counted, whether or not it is a banking day; n = 0 is `day`, or the next banking day.
    """
    invariant(abs(n) <= 10_000, "a business date lies within forty years")
    step = _ONE_DAY if n >= 0 else -_ONE_DAY
    while n == 0 and not is_banking_day(day):
        day += step
    while n != 0:
        day += step
        if is_banking_day(day):
            n -= 1 if n > 0 else -1
    return day
