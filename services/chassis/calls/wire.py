"""Between the wire's well-known messages and Python's own values."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2
from realco.type.v1 import explanation_pb2, failure_pb2, money_pb2

from services.chassis.values.errors import InvalidField
from services.chassis.values.explanation import Explanation
from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.chassis.values.refusals import SumTooLarge
from services.chassis.values.times import DATE_RULE, TIME_RULE, YEAR_MAX, YEAR_MIN

M = TypeVar("M", bound=Message)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MIN = int(datetime(YEAR_MIN, 1, 1, tzinfo=UTC).timestamp())
_SECONDS_END = int(datetime(YEAR_MAX + 1, 1, 1, tzinfo=UTC).timestamp())


def copy_without(message: M, *names: str) -> M:
    """The same message without these fields."""
    copy = type(message)()
    copy.CopyFrom(message)
    for name in names:
        copy.ClearField(name)
    return copy


def to_money(money: Money) -> money_pb2.Money:
    """Raises: SumTooLarge."""
    try:
        return money_pb2.Money(currency_code=money.currency, amount_minor=money.amount_minor)
    except ValueError:  # of an int64 too large, and of nothing else
        raise SumTooLarge from None


def to_amount(value: object) -> money_pb2.Money | None:
    """The amount of a value that may be text instead."""
    return to_money(value) if isinstance(value, Money) else None


def to_explanation(explanation: Explanation) -> explanation_pb2.Explanation:
    return explanation_pb2.Explanation(
        statement=explanation.statement,
        operands=[
            explanation_pb2.Explanation.Operand(name=name, value=str(value), amount=to_amount(value))
            for name, value in explanation.operands
        ],
        rule=explanation.rule,
        source=explanation.source,
    )


def from_explanation(message: explanation_pb2.Explanation) -> Explanation:
    operands = (
        (each.name, Money.from_proto(each.amount) if each.HasField("amount") else each.value)
        for each in message.operands
    )
    return Explanation(message.statement, message.rule, tuple(operands), message.source)


def to_failure(failure: Failure) -> failure_pb2.Failure:
    return failure_pb2.Failure(
        code=failure.code, message=failure.message, retryable=failure.retryable, metadata=dict(failure.metadata)
    )


def to_optional_failure(failure: Failure | None) -> failure_pb2.Failure | None:
    """Of what has not failed, nothing."""
    return None if failure is None else to_failure(failure)


def from_failure(message: failure_pb2.Failure) -> Failure:
    return Failure(message.code, message.message, message.retryable, dict(message.metadata))


def from_enum(enum: Any, number: int) -> str:
    """The name of a value of an enum that another service says; its number where that service is newer than we are."""
    name: str = enum.Name(number) if number in enum.values() else str(number)
    return name


def to_timestamp(moment: datetime) -> Timestamp:
    """Exact to the microsecond. `moment` must be aware: a naive time has no place on the wire."""
    if moment.tzinfo is None:
        raise TypeError("a time on the wire needs a zone")
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def to_optional_timestamp(moment: datetime | None) -> Timestamp | None:
    """Of what has not happened, nothing."""
    return None if moment is None else to_timestamp(moment)


def is_time(timestamp: Timestamp) -> bool:
    """Whether it comes back from a store as it went in (services.chassis.values.times)."""
    return (
        _SECONDS_MIN <= timestamp.seconds < _SECONDS_END
        and 0 <= timestamp.nanos < 10**9
        and timestamp.nanos % 1000 == 0
    )


def from_timestamp(timestamp: Timestamp, field: str = "time") -> datetime:
    """An aware UTC time. `field` is the message's path to it.

    Raises:
        InvalidField: it is none that a store gives back as it took it.
    """
    if not is_time(timestamp):
        raise InvalidField(f"The time is out of range: it {TIME_RULE}.", fields={field: TIME_RULE})
    return timestamp.ToDatetime(tzinfo=UTC)


def to_date(day: date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)


def is_date(message: date_pb2.Date) -> bool:
    """Whether it is a day: year, month and day are all given, and the calendar has it."""
    if not YEAR_MIN <= message.year <= YEAR_MAX or not 1 <= message.month <= 12:
        return False
    return 1 <= message.day <= monthrange(message.year, message.month)[1]


def from_date(message: date_pb2.Date, field: str = "date") -> date:
    """The civil day; `field` is the message's path to it.

    Raises:
        InvalidField: the day is not in the calendar (30 February), or a part is missing.
    """
    if not is_date(message):
        raise InvalidField(f"The date is not right: it {DATE_RULE}.", fields={field: DATE_RULE})
    return date(message.year, message.month, message.day)
