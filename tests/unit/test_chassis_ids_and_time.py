"""Ids sort by birth, dates follow the banks, clocks can be set."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from google.type import date_pb2

from services.chassis.calls.wire import from_date, from_timestamp, to_date, to_timestamp
from services.chassis.values import ids
from services.chassis.values.calendar import add_banking_days, is_banking_day
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import InvalidField


def test_an_id_is_its_prefix_and_26_characters():
    assert re.fullmatch(f"txn_{ids.BODY_PATTERN}", ids.new_id("txn"))


def test_later_ids_sort_later():
    made = [ids.new_id("je") for _ in range(200)]
    # A few may share a quarter of a microsecond; none may be early by more.
    assert [i[:18] for i in made] == sorted(i[:18] for i in made)
    assert len(set(made)) == 200


@pytest.mark.parametrize("prefix", ["", "Txn", "t_x", "1a", "a" * 17])
def test_a_prefix_is_a_short_lower_case_word(prefix):
    with pytest.raises(ValueError, match="prefix"):
        ids.new_id(prefix)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (("je", "a", "b"), ("je", "a", "b"), True),
        (("je", "a", "b"), ("je", "b", "a"), False),
        (("je", "ab", "c"), ("je", "a", "bc"), False),
        (("je", "a", "b"), ("je", "a:b"), False),
        (("je", "1:a", ""), ("je", "", "1:a"), False),
        (("je", "a"), ("txn", "a"), False),
    ],
)
def test_a_derived_id_belongs_to_its_parts(left, right, same):
    assert (ids.derived_id(*left).split("_")[1] == ids.derived_id(*right).split("_")[1]) is same


def test_derived_ids_stay_what_they_are():
    # Written down in databases: a change of this value would let a step happen twice.
    assert ids.derived_id("je", "txn_1", "settled") == "je_2ptwvdffm9b1y8w6gye1k08xct"


@pytest.mark.parametrize(
    ("day", "open_"),
    [
        (date(2026, 11, 20), True),
        (date(2026, 11, 21), False),  # Saturday
        (date(2026, 11, 26), False),  # Thanksgiving
        (date(2026, 11, 27), True),  # the Friday after
        (date(2026, 7, 3), True),  # 4 July 2026 is a Saturday, and the Fed does not move it to Friday
        (date(2027, 7, 5), False),  # 4 July 2027 is a Sunday, kept on Monday
        (date(2026, 6, 19), False),  # Juneteenth
    ],
)
def test_banking_days_are_the_federal_reserves(day, open_):
    assert is_banking_day(day) is open_


@pytest.mark.parametrize(
    ("day", "n", "result"),
    [
        (date(2026, 11, 20), 1, date(2026, 11, 23)),  # over the weekend
        (date(2026, 11, 25), 2, date(2026, 11, 30)),  # over Thanksgiving and the weekend
        (date(2026, 11, 21), 1, date(2026, 11, 23)),  # from a Saturday
        (date(2026, 11, 21), 0, date(2026, 11, 23)),
        (date(2026, 11, 20), 0, date(2026, 11, 20)),
        (date(2026, 11, 23), -1, date(2026, 11, 20)),
    ],
)
def test_banking_days_are_counted_from_the_day_after(day, n, result):
    assert add_banking_days(day, n) == result


def test_a_fake_clock_moves_when_told():
    clock = FakeClock(datetime(2026, 11, 22, 23, 59, tzinfo=UTC))
    assert clock.today() == date(2026, 11, 22)
    clock.advance(timedelta(minutes=1))
    assert clock.today() == date(2026, 11, 23)
    clock.set(datetime(2027, 1, 1, tzinfo=UTC))
    assert clock.now().year == 2027


def test_times_on_the_wire_keep_their_microseconds_and_need_a_zone():
    moment = datetime(2026, 11, 22, 1, 2, 3, 456789, tzinfo=UTC)
    assert from_timestamp(to_timestamp(moment)) == moment
    with pytest.raises(TypeError):
        to_timestamp(datetime(2026, 11, 22))  # noqa: DTZ001  # the fault under test


@pytest.mark.parametrize(("year", "month", "day"), [(2026, 2, 30), (0, 1, 1), (2026, 0, 0), (10000, 1, 1)])
def test_a_day_that_is_in_no_calendar_is_the_callers_fault(year, month, day):
    with pytest.raises(InvalidField) as refusal:
        from_date(date_pb2.Date(year=year, month=month, day=day), "close_date")
    assert list(refusal.value.fields) == ["close_date"]
    assert from_date(to_date(date(2028, 2, 29))) == date(2028, 2, 29)
