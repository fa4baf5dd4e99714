"""Protobuf messages into JSON, by a writer compiled once for each descriptor.

One rule for what is there: everything, but for what is `optional` in the proto or one of a oneof, what not everybody is
told (visibility.proto), and, in the items of lists, what is told of one resource alone. So an amount of zero reads "0",
an empty list [], no text "". A message cannot be made up: that a service sets what is not `optional` is its
promise, to which the stories' answers are held. A value of an enum that is newer than this process is written as
`UNKNOWN_<number>`: clients take any text where an answer has an enum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from realco.type.v1 import http_pb2, visibility_pb2

from services.chassis.spelling import scalars
from services.chassis.spelling.descriptors import camel_case, enum_of, is_map, is_message, message_of, option

# Why something did not happen: said as the problem says it that one request is refused with.
_FOR_PERSONS = frozenset({"realco.type.v1.Failure.message"})

_Emit = Callable[[Any, dict[str, Any]], None]
_Spell = Callable[[Any], Any]
Say = Callable[[str], str]


def dumps(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document)


def dump(message: Message, say: Say = str) -> bytes:
    return dumps(writer_of(message.DESCRIPTOR, say)(message))


class MessageWriter:
    """Writes a message as the dict its JSON has.

    Args:
        say: What a failure says to persons, in the words of the reader: REST calls things otherwise than gRPC.
        sparse: Of a resource (what has an etag) only what is set: it is shown in part, and what is not there says
            nothing. All else in it is whole.
        listed: It is an item of a list.
    """

    def __init__(self, descriptor: Descriptor, say: Say, sparse: bool, listed: bool) -> None:
        is_part = sparse and "etag" in descriptor.fields_by_name
        fields = [field for field in descriptor.fields if not (listed and option(field, visibility_pb2.not_in_lists))]
        self._emitters = [_emitter(field, say, sparse, listed, is_part) for field in fields]

    def __call__(self, message: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for emit in self._emitters:
            emit(message, out)
        return out


@cache
def writer_of(descriptor: Descriptor, say: Say = str, *, sparse: bool = False, listed: bool = False) -> MessageWriter:
    return MessageWriter(descriptor, say, sparse, listed)


def always_there(field: FieldDescriptor) -> bool:
    """True if every answer has this field. OpenAPI says so too."""
    told_to_all = not (is_withheld(field) or option(field, visibility_pb2.not_in_lists))
    return field.containing_oneof is None and told_to_all


def is_withheld(field: FieldDescriptor) -> bool:
    """Whether some are not told the field, whatever it says."""
    return bool(option(field, visibility_pb2.staff_only) or option(field, visibility_pb2.told_by_author))


def _emitter(field: FieldDescriptor, say: Say, sparse: bool, listed: bool, is_part: bool) -> _Emit:
    name, key = field.name, field.json_name
    # Whoever is not told must not read that there is none.
    only_set = is_part or is_withheld(field)
    if is_map(field):
        spell_key = camel_case if option(field, http_pb2.keys_are_names) else str
        spell_value = _spelling(message_of(field).fields_by_name["value"], say, sparse, listed=True)

        def emit_map(message: Any, out: dict[str, Any]) -> None:
            entries = getattr(message, name)
            if entries or not only_set:
                out[key] = {spell_key(of): spell_value(value) for of, value in entries.items()}

        return emit_map
    if field.full_name in _FOR_PERSONS:
        spell: _Spell = say
    else:
        spell = (
            camel_case
            if option(field, http_pb2.is_field_name)
            else _spelling(field, say, sparse, listed or field.is_repeated)
        )
    if field.is_repeated:

        def emit_list(message: Any, out: dict[str, Any]) -> None:
            items = getattr(message, name)
            if items or not only_set:
                out[key] = [spell(item) for item in items]

        return emit_list
    if field.has_presence:

        def emit_present(message: Any, out: dict[str, Any]) -> None:
            if message.HasField(name):
                out[key] = spell(getattr(message, name))

        return emit_present

    def emit(message: Any, out: dict[str, Any]) -> None:
        value = getattr(message, name)
        if value or not only_set:
            out[key] = spell(value)

    return emit


def _spelling(field: FieldDescriptor, say: Say, sparse: bool, listed: bool) -> _Spell:
    if field.type == FieldDescriptor.TYPE_ENUM:
        names = {value.number: value.name for value in enum_of(field).values}
        return lambda number: names.get(number) or f"UNKNOWN_{number}"
    if field.type == FieldDescriptor.TYPE_INT64:
        return str
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_INT32):
        return lambda value: value
    if not is_message(field):
        raise TypeError(f"{field.full_name}: no JSON spelling for this type")
    nested = message_of(field)
    if nested.full_name in scalars.WRITE_MESSAGE:
        return scalars.WRITE_MESSAGE[nested.full_name]
    writer = writer_of(nested, say, sparse=sparse, listed=listed)
    return lambda message: writer(message)
