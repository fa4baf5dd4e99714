"""What every field of a kind keeps, in every request: texts, times, days, and ranges of times.

These rules stand in no proto, so that none can be without them; only that a text may have several lines is said there
(`(buf.validate.field).string.(realco.type.v1.lines) = true`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from realco.type.v1 import rules_pb2

from services.chassis.calls.wire import is_date, is_time
from services.chassis.values.text import find_fault
from services.chassis.values.times import DATE_RULE, TIME_RULE

_TIME, _DATE = "google.protobuf.Timestamp", "google.type.Date"

Faults = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    holds_messages: bool
    is_list: bool
    is_map: bool
    takes_lines: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be looked at in a message of one type."""

    fields: tuple[_Field, ...]
    ranges: tuple[tuple[str, str], ...]


_PLANS: dict[str, _Plan] = {}


def find_faults(message: Message, prefix: str = "") -> Faults:
    """(the field's path, what is wrong with it), in the order of the fields."""
    plan = _PLANS.get(message.DESCRIPTOR.full_name)
    if plan is None:
        plan = _PLANS.setdefault(message.DESCRIPTOR.full_name, _plan_for(message.DESCRIPTOR))  # type: ignore[arg-type]  # the stubs know two names of a Descriptor
    for field in plan.fields:
        value = getattr(message, field.name)
        if field.is_map:
            for key in value:
                item = value[key]  # the key is the caller's own text, so the path does not repeat it
                yield from _check_text(key, f"{prefix}{field.name}[*]", lines=False)
                yield from _check(item, field, f"{prefix}{field.name}[*]")
        elif field.is_list:
            for index, item in enumerate(value):
                yield from _check(item, field, f"{prefix}{field.name}[{index}]")
        elif not field.holds_messages or message.HasField(field.name):
            yield from _check(value, field, prefix + field.name)
    for begin, end in plan.ranges:
        if message.HasField(begin) and message.HasField(end) and _order(message, begin) > _order(message, end):
            yield prefix + begin, "must not be after the end of the range"


def ranges_of(descriptor: Descriptor) -> list[tuple[str, str]]:
    """The pairs of fields that are the two ends of a range of times or days: `from` and `to`, `from_time` and
    `to_time`, `settle_time_from` and `settle_time_to`."""
    fields = {field.name: field for field in descriptor.fields if _type_name(field) in (_TIME, _DATE)}
    pairs = ((name, "_".join("to" if part == "from" else part for part in name.split("_"))) for name in fields)
    return [(begin, end) for begin, end in pairs if end != begin and end in fields]


def _plan_for(descriptor: Descriptor) -> _Plan:
    fields = []
    for field in descriptor.fields:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        held = field.message_type.fields_by_name["value"] if is_map and field.message_type is not None else field
        if is_map or held.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            holds_messages = held.type == FieldDescriptor.TYPE_MESSAGE
            fields.append(_Field(field.name, holds_messages, field.is_repeated, is_map, _takes_lines(field)))
    return _Plan(tuple(fields), tuple(ranges_of(descriptor)))


def _takes_lines(field: FieldDescriptor) -> bool:
    extension: Any = validate_pb2.field  # the stubs and the descriptors disagree about its type
    return bool(field.GetOptions().Extensions[extension].string.Extensions[rules_pb2.lines])


def _check(value: Any, field: _Field, path: str) -> Faults:
    if not field.holds_messages:
        yield from _check_text(value, path, lines=field.takes_lines)
        return
    name = value.DESCRIPTOR.full_name
    if name == _TIME:
        if not is_time(value):
            yield path, TIME_RULE
    elif name == _DATE:
        if not is_date(value):
            yield path, DATE_RULE
    else:
        yield from find_faults(value, f"{path}.")


def _check_text(value: Any, path: str, *, lines: bool) -> Faults:
    if isinstance(value, str) and (fault := find_fault(value, lines=lines)):
        yield path, fault


def _order(message: Message, name: str) -> tuple[int, ...]:
    value = getattr(message, name)
    if value.DESCRIPTOR.full_name == _TIME:
        return value.seconds, value.nanos
    return value.year, value.month, value.day


def _type_name(field: FieldDescriptor) -> str:
    return str(field.message_type.full_name) if field.message_type is not None else ""
