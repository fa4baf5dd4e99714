"""Between the wire's well-known messages and Python's own values."""

from __future__ import annotations

from datetime import UTC, date, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2
from realco.type.v1 import money_pb2

from services.chassis.values.errors import InvalidField
from services.chassis.values.money import Money


def to_money(money: Money) -> money_pb2.Money:
    return money_pb2.Money(currency_code=money.currency, amount_minor=money.amount_minor)


def to_timestamp(moment: datetime) -> Timestamp:
    """Exact to the microsecond. `moment` must be aware: a naive time has no place on the wire."""
    if moment.tzinfo is None:
        raise TypeError("a time on the wire needs a zone")
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def from_timestamp(timestamp: Timestamp, field: str = "time") -> datetime:
    """An aware UTC time; what is finer than a microsecond is cut off. `field` is the request's path to it.

    Raises:
        InvalidField: the time is not between the years 1 and 9999.
    """
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidField(
            "The time is out of range.", fields={field: "must be a time between the years 1 and 9999"}
        ) from None


def to_date(day: date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)


def from_date(message: date_pb2.Date, field: str = "date") -> date:
    """The civil day; `field` is the request's path to it.

    Raises:
        InvalidField: the day is not in the calendar (30 February), or a part is missing.
    """
    try:
        return date(message.year, message.month, message.day)
    except ValueError:
        raise InvalidField(
            "The date is not in the calendar.", fields={field: "must be a day of the calendar"}
        ) from None
