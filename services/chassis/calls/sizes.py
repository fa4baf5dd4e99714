"""How many of a thing a request may have: asked before all else, so that nothing is worked through that is too much."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message


@dataclass(slots=True)
class _Bounds:
    """Of a message of one type, compiled once."""

    counted: list[tuple[str, int, str]] = field(default_factory=list)  # the field, how many it may have, in words
    messages: list[tuple[str, _Bounds]] = field(default_factory=list)
    lists: list[tuple[str, _Bounds]] = field(default_factory=list)
    is_complete: bool = False

    @property
    def is_empty(self) -> bool:
        return self.is_complete and not (self.counted or self.messages or self.lists)


_BOUNDS: dict[str, _Bounds] = {}
# Bodies are read in several threads: none sees what another one has compiled in part.
_COMPILING = RLock()


def find_excess(message: Message) -> tuple[str, str] | None:
    """The first field that has too many entries: its path, and how many it may have. None: there is none."""
    bounds = _BOUNDS.get(message.DESCRIPTOR.full_name)
    if bounds is None or not bounds.is_complete:
        with _COMPILING:
            bounds = _bounds_of(message.DESCRIPTOR)  # type: ignore[arg-type]  # one type of two names
    return _find(message, bounds, "")


def most_of(item: FieldDescriptor) -> int | None:
    """How many entries a list or a map may have by its rules; None where they say nothing."""
    extension: Any = validate_pb2.field  # the stubs and the descriptors disagree about its type
    rules = item.GetOptions().Extensions[extension]
    return (rules.map.max_pairs if _is_map(item) else rules.repeated.max_items) or None


def tell_most(item: FieldDescriptor, most: int) -> str:
    """In words, for who sent more."""
    return f"must contain no more than {most} {'entries' if _is_map(item) else 'item(s)'}"


def _is_map(item: FieldDescriptor) -> bool:
    return item.message_type is not None and item.message_type.GetOptions().map_entry


def _find(message: Any, bounds: _Bounds, prefix: str) -> tuple[str, str] | None:
    for name, most, words in bounds.counted:
        if len(getattr(message, name)) > most:
            return prefix + name, words
    for name, held in bounds.messages:
        if message.HasField(name) and (found := _find(getattr(message, name), held, f"{prefix}{name}.")):
            return found
    for name, held in bounds.lists:
        for index, item in enumerate(getattr(message, name)):
            if found := _find(item, held, f"{prefix}{name}[{index}]."):
                return found
    return None


def _bounds_of(descriptor: Descriptor) -> _Bounds:
    known = _BOUNDS.get(descriptor.full_name)
    if known is not None:
        return known
    bounds = _BOUNDS[descriptor.full_name] = _Bounds()  # before its fields: a message may hold itself
    for item in descriptor.fields:
        most = most_of(item)
        if most is not None:
            bounds.counted.append((item.name, most, tell_most(item, most)))
        if item.message_type is not None and not _is_map(item):
            held = _bounds_of(item.message_type)
            if not held.is_empty:
                (bounds.lists if item.is_repeated else bounds.messages).append((item.name, held))
    bounds.is_complete = True
    return bounds
