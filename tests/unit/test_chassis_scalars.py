"""The one spelling each single value has in JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.chassis.spelling import scalars


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("0", 0),
        ("1", 1),
        ("-1", -1),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        # Everything else has no such number.
        ("9223372036854775808", None),
        (1050, None),
        (-7, None),
        (2**63 - 1, None),
        (2**63, None),
        (2**64, None),
        (1e40, None),
        ("1" + "0" * 40, None),
        ("-0", None),
        ("00", None),
        ("01", None),
        ("+1", None),
        ("1.5", None),
        ("1.0", None),
        (1.5, None),
        (1.0, None),
        ("1e3", None),
        (1e3, None),
        ("1,000", None),
        ("1_000", None),
        ("0x10", None),
        (" 1", None),
        ("1 ", None),
        ("1\n", None),
        ("", None),
        ("١٢", None),
        ("\uff11\uff12", None),
        ("²", None),
        ("NaN", None),
        ("Infinity", None),
        (True, None),
        (False, None),
        (None, None),
        ([], None),
        ({}, None),
    ],
)
def test_an_amount_is_a_whole_number_in_64_bits(value, number):
    if number is None:
        with pytest.raises(ValueError, match="must be a whole number"):
            scalars.read_int64(value)
    else:
        assert scalars.read_int64(value) == number


@pytest.mark.parametrize("value", ["1", 1.0, True, 2**31, -(2**31) - 1, None])
def test_a_small_number_is_a_json_number(value):
    with pytest.raises(ValueError, match="must be a whole number"):
        scalars.read_int32(value)


@pytest.mark.parametrize("text", ["1e3", "1.0", " 1", "+1", "\uff11", "2147483648", "-0", "true"])
def test_a_number_in_a_query_is_spelled_plainly(text):
    with pytest.raises(ValueError, match="must be a whole number"):
        scalars.text_to_int32(text)


@pytest.mark.parametrize("value", ["true", 1, 0, None, []])
def test_a_boolean_is_true_or_false(value):
    with pytest.raises(ValueError, match="must be true or false"):
        scalars.read_bool(value)


@pytest.mark.parametrize("text", ["True", "1", "yes", "TRUE", "on"])
def test_a_boolean_in_a_query_is_spelled_true_or_false(text):
    with pytest.raises(ValueError, match="must be true or false"):
        scalars.text_to_bool(text)


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("1970-01-01T00:00:00.5Z", 0, 500_000_000),
        ("1969-12-31T23:59:59.000000001Z", -1, 1),
        ("1970-01-01T02:00:00+02:00", 0, 0),
        ("1969-12-31T19:00:00-05:00", 0, 0),
        ("2024-02-29T00:00:00Z", 1709164800, 0),
        ("9999-12-31T23:59:59.999999999Z", 253402300799, 999_999_999),
    ],
)
def test_a_time_has_a_zone(text, seconds, nanos):
    assert scalars.read_time(text) == {"seconds": seconds, "nanos": nanos}


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31T12:00:00",  # no zone
        "2026-01-31T12:00:00 02:00",  # a plus sign that was not encoded
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00Z",
        "20260131T120000Z",
        "2026-01-31",
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "2026-01-31T24:00:00Z",
        "2016-12-31T23:59:60Z",  # a leap second
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+02:60",
        "0001-01-01T00:00:00+01:00",  # before the first year
        "9999-12-31T23:59:59-01:00",
        "2026-01-31T12:00:00.1234567890Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00z",
        "\uff12\uff10\uff12\uff16-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z\n",
        "",
        0,
        1769860800,
        None,
        {"seconds": 1},
    ],
)
def test_what_is_no_such_time_is_refused(value):
    with pytest.raises(ValueError, match=r"RFC 3339|not a time that exists"):
        scalars.read_time(value)


@pytest.mark.parametrize(
    "value",
    ["2026-02-30", "2025-02-29", "0000-01-01", "10000-01-01", "2026-1-1", "20260101", "01/02/2026", "", 1, None, {}],
)
def test_what_is_no_such_date_is_refused(value):
    with pytest.raises(ValueError, match=r"must be a date|not a date that exists"):
        scalars.read_date(value)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(st.dates())
def test_a_date_is_written_as_it_is_read(day):
    assert scalars.write_date(Date(**scalars.read_date(day.isoformat()))) == day.isoformat()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001  # the zone is drawn beside it
    st.integers(-23 * 60, 23 * 60),
)
def test_a_time_of_any_zone_is_the_same_instant(local, minutes):
    zoned = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    stamp = Timestamp(**scalars.read_time(zoned.isoformat()))
    assert stamp.ToDatetime(UTC) == zoned
    assert scalars.write_time(stamp) == stamp.ToJsonString()
