"""The bank's own calendar: when the Federal Reserve's payment systems settle.

Written from the rules, and sharing nothing with the calendar of the services: a holiday that one of the two has wrong
shows as a difference (tests/property/test_calendars.py).

Source: Federal Reserve Banks, "Holiday Schedules" (frbservices.org): the holidays of 5 U.S.C. 6103(a); one that falls
on a Sunday is kept on the Monday after it, one on a Saturday is not moved. Juneteenth: Public Law 117-17, 2021.
"""

from __future__ import annotations

from datetime import date, timedelta

_MONDAY, _SATURDAY = 0, 5
_ONE_DAY = timedelta(days=1)


def add_banking_days(day: date, count: int) -> date:
    """The count-th banking day after `day`, which itself is not counted. `count` is at least 1."""
    for _ in range(count):
        day += _ONE_DAY
        while not is_banking_day(day):
            day += _ONE_DAY
    return day


def is_banking_day(day: date) -> bool:
    if day.weekday() >= _SATURDAY:
        return False
    # A Monday is also closed for a holiday on the Sunday before it.
    return not (_is_holiday(day) or (day.weekday() == _MONDAY and _has_fixed_holiday(day - _ONE_DAY)))


def _is_holiday(day: date) -> bool:
    return _has_fixed_holiday(day) or _has_weekday_holiday(day)


def _has_fixed_holiday(day: date) -> bool:
    match day.month, day.day:
        case (1, 1) | (7, 4) | (11, 11) | (12, 25):  # New Year, Independence, Veterans and Christmas Day
            return True
        case (6, 19):  # Juneteenth
            return day.year >= 2021
    return False


def _has_weekday_holiday(day: date) -> bool:
    week = (day.day - 1) // 7 + 1
    match day.month, day.weekday():
        case (1, 0) | (2, 0):  # Mondays: Martin Luther King's and Washington's birthday
            return week == 3
        case (5, 0):  # Memorial Day: the last Monday
            return day.day > 31 - 7
        case (9, 0):  # Labor Day
            return week == 1
        case (10, 0):  # Columbus Day
            return week == 2
        case (11, 3):  # Thanksgiving Day: the fourth Thursday
            return week == 4
    return False
