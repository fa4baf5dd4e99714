"""Banking days: when the Federal Reserve's payment systems settle.

Saturdays, Sundays and the Federal Reserve's holidays are no banking days. A holiday on a Saturday is not moved to
Friday; one on a Sunday is kept on Monday. Source: Federal Reserve Banks, Holiday Schedules.
"""

from __future__ import annotations

from datetime import date, timedelta

import holidays

from services.chassis.values.invariant import invariant

_ONE_DAY = timedelta(days=1)
# Grows a year at a time as it is asked, and answers from memory after that.
_FED_HOLIDAYS = holidays.financial_holidays("XFED")


def is_banking_day(day: date) -> bool:
    return day.weekday() < 5 and day not in _FED_HOLIDAYS


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
