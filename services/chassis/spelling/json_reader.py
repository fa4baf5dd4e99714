"""Strict JSON into protobuf messages, by a reader compiled once for each descriptor.

What the contract does not say is refused: unknown fields, a key given twice, another type, another spelling. So is an
object without what it must have, which only JSON tells: in a message, zero and nothing are the same. Faults are
collected with their JSON pointers, so that one answer tells what there is to mend; no value is ever repeated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.chassis.calls.sizes import most_of, tell_most
from services.chassis.spelling import scalars
from services.chassis.spelling.descriptors import is_map, is_message, is_required, message_of
from services.chassis.values.faults import Faults

DEPTH_MAX = 32
IS_REQUIRED = "is required"
_REPEATED_KEY = "has the same key twice in one object"
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_.$-]{0,63}")

Path = tuple[str | int, ...]
Found = Faults[tuple[Path, str]]
_Set = Callable[[Any, Any, Path, Found], None]


def parse(raw: bytes) -> Any:
    """The JSON value in `raw`.

    Raises:
        ValueError: with words that complete "The body …".
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise ValueError("is not valid JSON in UTF-8") from None
    # A text has a colon for each key. As many colons as keys means that no key was lost to a second one.
    if _count_keys(value, 1) != raw.count(b":"):
        try:
            json.loads(raw, object_pairs_hook=_unrepeated, parse_int=str, parse_float=str)
        except RecursionError:  # what is nested so deep was under a key that a second one of its name replaced
            raise ValueError(_REPEATED_KEY) from None
    return value


def _unrepeated(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise ValueError(_REPEATED_KEY)


def _count_keys(value: Any, depth: int) -> int:
    kind = type(value)
    if kind is not dict and kind is not list:
        return 0
    if depth > DEPTH_MAX:
        raise ValueError(f"is nested more than {DEPTH_MAX} deep")
    if kind is dict:
        return len(value) + sum(_count_keys(item, depth + 1) for item in value.values())
    return sum(_count_keys(item, depth + 1) for item in value)


def pointer(path: Path) -> str:
    """RFC 6901. Names that are not plain were made up by the caller and are not repeated."""
    return "".join(f"/{part}" for part in path)


class MessageReader:
    """Reads a JSON object into a message.

    Args:
        descriptor: The message's.
        without: Proto names of fields that REST carries elsewhere (path, headers): here they are unknown.
    """

    def __init__(self, descriptor: Descriptor, without: frozenset[str] = frozenset()) -> None:
        self._setters: dict[str, _Set] = {
            field.json_name: _setter(field) for field in descriptor.fields if field.name not in without
        }
        self._required = [
            field.json_name for field in descriptor.fields if field.name not in without and is_required(field)
        ]
        self._oneofs = [
            frozenset(field.json_name for field in oneof.fields) for oneof in descriptor.oneofs if len(oneof.fields) > 1
        ]

    def __call__(self, message: Message, value: Any, path: Path, found: Found) -> None:
        if type(value) is not dict:
            found.append((path, "must be an object"))
            return
        for name, item in value.items():
            setter = self._setters.get(name)
            if setter is None:
                found.append(((*path, name), "is not a field") if _PLAIN_NAME.fullmatch(name) else (path, _UNKNOWN))
            elif item is not None:  # null means not set
                setter(message, item, path, found)
        found.extend(((*path, name), IS_REQUIRED) for name in self._required if value.get(name) is None)
        for names in self._oneofs:
            if sum(value.get(name) is not None for name in names) > 1:
                found.append((path, f"can have only one of {', '.join(sorted(names))}"))


_UNKNOWN = "has a key that is not a field"


@cache
def reader_of(descriptor: Descriptor) -> MessageReader:
    return MessageReader(descriptor)


def _setter(field: FieldDescriptor) -> _Set:
    if is_map(field):
        return _map_setter(field)
    read_item = _item_reader(field)
    name, json_name = field.name, field.json_name
    if not field.is_repeated:
        return lambda message, item, path, found: read_item(message, name, item, (*path, json_name), found)

    most = most_of(field)
    too_many = "" if most is None else tell_most(field, most)

    def set_list(message: Any, items: Any, path: Path, found: Found) -> None:
        if type(items) is not list:
            found.append(((*path, json_name), "must be a list"))
            return
        if most is not None and len(items) > most:
            found.append(((*path, json_name), too_many))
            return
        target = getattr(message, name)
        for index, item in enumerate(items):
            if item is None:
                found.append(((*path, json_name, index), "must not be null"))
            else:
                read_item(target, None, item, (*path, json_name, index), found)

    return set_list


def _item_reader(field: FieldDescriptor) -> Callable[[Any, str | None, Any, Path, Found], None]:
    """Reads one value into the named field of a message, or, without a name, appends it to a repeated one."""
    if is_message(field) and message_of(field).full_name not in scalars.READ_MESSAGE:
        nested = message_of(field)

        def read_message(target: Any, name: str | None, item: Any, path: Path, found: Found) -> None:
            child = target.add() if name is None else getattr(target, name)
            child.SetInParent()
            reader_of(nested)(child, item, path, found)

        return read_message
    read = scalars.reader(field)
    spelled_as_string = is_message(field)

    def read_value(target: Any, name: str | None, item: Any, path: Path, found: Found) -> None:
        try:
            value = read(item)
        except ValueError as fault:
            found.append((path, str(fault)))
            return
        if name is None:
            target.add(**value) if spelled_as_string else target.append(value)
        elif spelled_as_string:
            child = getattr(target, name)
            child.SetInParent()
            for part, number in value.items():
                setattr(child, part, number)
        else:
            setattr(target, name, value)

    return read_value


def _map_setter(field: FieldDescriptor) -> _Set:
    entry = message_of(field)
    read = scalars.reader(entry.fields_by_name["value"])
    if entry.fields_by_name["key"].type != FieldDescriptor.TYPE_STRING:
        raise TypeError(f"{field.full_name}: only maps by string are carried")
    name, json_name, most = field.name, field.json_name, most_of(field)
    too_many = "" if most is None else tell_most(field, most)

    def set_map(message: Any, items: Any, path: Path, found: Found) -> None:
        if type(items) is not dict:
            found.append(((*path, json_name), "must be an object"))
            return
        if most is not None and len(items) > most:
            found.append(((*path, json_name), too_many))
            return
        target = getattr(message, name)
        for key, item in items.items():
            try:
                target[scalars.read_string(key)] = read(item)
            except ValueError as fault:
                place = (*path, json_name, key) if _PLAIN_NAME.fullmatch(key) else (*path, json_name)
                found.append((place, str(fault)))

    return set_map
