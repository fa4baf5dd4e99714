"""Events as the contracts describe them: what one is about, what no event carries, and what it is cut into.

The options of `realco/type/v1/event.proto` say all of it, so no service can forget any of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from realco.type.v1 import event_pb2

from services.chassis.calls.wire import copy_without
from services.chassis.spelling.descriptors import MarkedFields
from services.chassis.values.invariant import invariant

# NATS takes 256 KiB a message, headers included. A larger event would stop the relay for ever, so it is refused
# where it is written, where the transaction can still fail.
PAYLOAD_BYTES_MAX = 248 * 1024
# What an event is cut to: its envelope, which it gets afterwards, still fits in.
_PART_BYTES_MAX = 240 * 1024
_ITEM_BYTES = 8  # at most, beside an item itself: its tag and its length
NO_SCOPE = "_"


def aggregate_of(event: Message) -> str:
    """The id of what the event is about."""
    found = _value(event, _option(event.DESCRIPTOR).aggregate.split("."))
    invariant(found != "", f"{event.DESCRIPTOR.full_name} names what it is about")
    return found


def scope_of(event: Message) -> str:
    """The last token of the event's subject: an escrow account or offering, or `_`."""
    path = _option(event.DESCRIPTOR).scope
    return (_value(event, path.split(".")) if path else "") or NO_SCOPE


def is_left_out(field: FieldDescriptor) -> bool:
    """Whether no event carries the field: `(realco.type.v1.not_in_events)`."""
    option: Any = event_pb2.not_in_events  # generated stubs do not say which message it extends
    return bool(field.GetOptions().Extensions[option])


_LEFT_OUT = MarkedFields(is_left_out)


def leave_out(message: Message) -> None:
    """Empties the fields that no event carries, of the message and of all messages in it."""
    emptied, inner = _LEFT_OUT.of(message.DESCRIPTOR)
    for field in emptied:
        message.ClearField(field.name)
    for field in inner:
        for item in MarkedFields.messages_in(message, field):
            leave_out(item)


def cut(event: Any) -> list[Any]:
    """The event as messages of NATS: itself, or numbered parts of it where the contract lets it come in parts."""
    path = _option(event.DESCRIPTOR).parts
    if not path:
        return [event]
    if event.ByteSize() <= _PART_BYTES_MAX:
        event.part = event.part_count = 1
        return [event]
    name, _, within = path.partition(".")
    items = list(getattr(event, name))
    head = copy_without(event, name)
    room = _PART_BYTES_MAX - head.ByteSize()
    pieces = chain.from_iterable(_split(item, within, room) for item in items) if within else iter(items)
    parts = []
    for run in _collect(pieces, room):
        part = copy_without(head)
        getattr(part, name).extend(run)
        parts.append(part)
    for number, part in enumerate(parts, start=1):
        part.part, part.part_count = number, len(parts)
    return parts


def _collect(items: Iterable[Message], room: int) -> Iterator[list[Message]]:
    """The items in runs of at most `room` bytes, in their order. One that is larger is a run of its own."""
    run: list[Message] = []
    left = room
    for item in items:
        size = item.ByteSize() + _ITEM_BYTES
        if run and size > left:
            yield run
            run, left = [], room
        run.append(item)
        left -= size
    if run:
        yield run


def _split(item: Message, name: str, room: int) -> Iterator[Message]:
    """The item, or as many of it as it takes, each with some of its list `name`."""
    if item.ByteSize() + _ITEM_BYTES <= room:
        yield item
        return
    head = copy_without(item, name)
    for run in _collect(getattr(item, name), room - head.ByteSize() - _ITEM_BYTES):
        piece = copy_without(head)
        getattr(piece, name).extend(run)
        yield piece


@cache
def _option(descriptor: Descriptor) -> Any:
    option: Any = event_pb2.event
    invariant(descriptor.GetOptions().HasExtension(option), f"{descriptor.full_name} has (realco.type.v1.event)")
    return descriptor.GetOptions().Extensions[option]


def _value(message: Message, path: Sequence[str]) -> str:
    *parents, name = path
    for parent in parents:
        message = getattr(message, parent)
    value = getattr(message, name)
    enum = message.DESCRIPTOR.fields_by_name[name].enum_type
    return str(value) if enum is None else str(enum.values_by_number[value].name)
