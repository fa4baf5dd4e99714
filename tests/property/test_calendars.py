"""The sandbox bank and the services each have a calendar of their own, written apart: they must agree, with one another
and with a library's."""

from __future__ import annotations

from datetime import date, timedelta

import holidays
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.bank import calendar as bank
from services.chassis.values import calendar as ours

FIRST, LAST = date(1999, 1, 1), date(2060, 12, 31)


def test_the_two_calendars_agree_on_every_day_of_six_decades() -> None:
    days = (FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1))
    assert [day for day in days if bank.is_banking_day(day) != ours.is_banking_day(day)] == []


def test_a_calendar_that_others_keep_has_the_same_holidays() -> None:
    kept = holidays.financial_holidays("XFED", years=range(FIRST.year, LAST.year + 1))
    workdays = {day for day in kept if day.weekday() < 5}
    days = (FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1))
    assert workdays == {day for day in days if day.weekday() < 5 and not ours.is_banking_day(day)}


@given(st.dates(date(2000, 1, 1), date(2050, 1, 1)), st.integers(1, 90))
def test_the_two_calendars_count_the_same_banking_days(day: date, count: int) -> None:
    assert bank.add_banking_days(day, count) == ours.add_banking_days(day, count)


@pytest.mark.parametrize(
    ("day", "is_banking_day"),
    [
        (date(2026, 7, 3), True),  # Independence Day is a Saturday: the Friday before is open
        (date(2027, 7, 5), False),  # and here a Sunday: the Monday after is closed
        (date(2020, 6, 19), True),  # before Juneteenth became a holiday
        (date(2024, 6, 19), False),
        (date(2024, 12, 24), True),
        (date(2024, 12, 25), False),
        (date(2023, 1, 2), False),
        (date(2026, 5, 25), False),  # the last Monday of May
        (date(2026, 11, 26), False),  # the fourth Thursday of November
        (date(2026, 11, 27), True),
    ],
)
def test_both_keep_the_published_days(day: date, is_banking_day: bool) -> None:
    assert (bank.is_banking_day(day), ours.is_banking_day(day)) == (is_banking_day, is_banking_day)
