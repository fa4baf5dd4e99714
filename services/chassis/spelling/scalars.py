"""Single values as JSON spells them, both ways: whole numbers, dates, times.

Readers take exactly one spelling of a value and raise ValueError, with words for the caller, for any other; no value
passes through a float.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from services.chassis.calls.validation import taken_values
from services.chassis.spelling.descriptors import is_message, message_of

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INT64_PATTERN = r"^(0|-?[1-9][0-9]{0,18})$"
_INT = re.compile(r"0|-?[1-9][0-9]*", re.ASCII)
_DIGITS_MAX = len(str(INT64_MIN))
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
# `*` and the weak `W/"…"` of RFC 9110 say that any version will do, or one like it: no promise that we keep.
_ETAG = re.compile(r'"([\x21\x23-\x7e]{1,255})"|([0-9A-Za-z_-]{1,255})')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Read = Callable[[Any], Any]


def read_string(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("must be a string")
    return value


def read_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def read_int32(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("must be a whole number")
    if not INT32_MIN <= value <= INT32_MAX:
        raise _out_of_range(INT32_MAX)
    return value


def read_int64(value: Any) -> int:
    """A decimal string and no JSON number: JavaScript holds not all of int64 in one, and rounds without a word."""
    if type(value) is not str or not _INT.fullmatch(value):
        raise ValueError('must be a whole number, as a string of decimal digits such as "1050"')
    return _read_digits(value, INT64_MIN, INT64_MAX)


def read_etag(value: Any) -> str:
    """What `If-Match` names: one strong entity tag, in the quotes that `ETag` has, or bare as the field `etag` is."""
    match = _ETAG.fullmatch(value)
    if match is None:
        raise ValueError('must be one etag: "9f2c…" as the header ETag gave it, or 9f2c… as the field etag did')
    return str(match.group(1) or match.group(2))


def text_to_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def text_to_int32(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError("must be a whole number")
    return _read_digits(text, INT32_MIN, INT32_MAX)


def _read_digits(text: str, least: int, most: int) -> int:
    """Python refuses to read thousands of digits, so their number is looked at first."""
    if len(text) > _DIGITS_MAX or not least <= (number := int(text)) <= most:
        raise _out_of_range(most)
    return number


def _out_of_range(most: int) -> ValueError:
    return ValueError(f"must be a whole number of at most {most}, positive or negative")


def enum_reader(field: FieldDescriptor) -> Read:
    """Names only, of the values that are taken; the unspecified one is not: what is not set is left out."""
    numbers = {value.name: value.number for value in taken_values(field)}
    names = ", ".join(numbers)

    def read(value: Any) -> int:
        number = numbers.get(value) if type(value) is str else None
        if number is None:
            raise ValueError(f"must be one of {names}")
        return number

    return read


def read_time(value: Any) -> dict[str, int]:
    """RFC 3339 with a zone -> the fields of google.protobuf.Timestamp."""
    match = _TIME.fullmatch(value) if type(value) is str else None
    if match is None:
        raise ValueError("must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z")
    *parts, fraction, zone = match.groups()
    year, month, day, hour, minute, second = map(int, parts)
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        instant = local - _offset(zone)
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None
    return {"seconds": timegm(instant.timetuple()), "nanos": int((fraction or "").ljust(9, "0"))}


def _offset(zone: str) -> timedelta:
    if zone == "Z":
        return timedelta()
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError("no such zone")
    return timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)


def write_time(stamp: Any) -> str:
    """UTC, with as many decimals as the instant needs: none, 3, 6 or 9."""
    text = (_EPOCH + timedelta(seconds=stamp.seconds)).isoformat()[:19]
    if not stamp.nanos:
        return f"{text}Z"
    nanos = f"{stamp.nanos:09}"
    digits = next(digits for digits in (3, 6, 9) if not nanos[digits:].strip("0"))
    return f"{text}.{nanos[:digits]}Z"


def read_date(value: Any) -> dict[str, int]:
    """`YYYY-MM-DD` -> the fields of google.type.Date."""
    match = _DATE.fullmatch(value) if type(value) is str else None
    if match is None:
        raise ValueError("must be a date such as 2026-01-31")
    year, month, day = map(int, match.groups())
    try:
        date(year, month, day)
    except ValueError:
        raise ValueError("is not a date that exists") from None
    return {"year": year, "month": month, "day": day}


def write_date(day: Any) -> str:
    return f"{day.year:04}-{day.month:02}-{day.day:02}"


# Messages that JSON spells as one string: reader to the message's fields, and writer.
READ_MESSAGE: Mapping[str, Callable[[Any], dict[str, int]]] = {
    "google.protobuf.Timestamp": read_time,
    "google.type.Date": read_date,
}
WRITE_MESSAGE: Mapping[str, Callable[[Any], str]] = {
    "google.protobuf.Timestamp": write_time,
    "google.type.Date": write_date,
}

_READ: Mapping[int, Read] = {
    FieldDescriptor.TYPE_STRING: read_string,
    FieldDescriptor.TYPE_BOOL: read_bool,
    FieldDescriptor.TYPE_INT32: read_int32,
    FieldDescriptor.TYPE_INT64: read_int64,
}
_READ_TEXT: Mapping[int, Read] = {
    **_READ,
    FieldDescriptor.TYPE_BOOL: text_to_bool,
    FieldDescriptor.TYPE_INT32: text_to_int32,
}


def reader(field: FieldDescriptor, *, text: bool = False) -> Read:
    """The reader of a field's JSON value, or with `text` of its spelling in a query or path.

    Raises:
        TypeError: the contract uses a type this gateway does not carry. There is no float among those it does.
    """
    if field.type == FieldDescriptor.TYPE_ENUM:
        return enum_reader(field)
    if is_message(field) and message_of(field).full_name in READ_MESSAGE:
        return READ_MESSAGE[message_of(field).full_name]
    found = (_READ_TEXT if text else _READ).get(field.type)
    if found is None:
        raise TypeError(f"{field.full_name}: no JSON spelling for this type")
    return found
