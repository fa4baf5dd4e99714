"""Reading protobuf descriptors, with the types their stubs leave open."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

_JOINT = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")


def camel_case(name: str) -> str:
    """A name of a proto, or a path of names, as JSON spells it: `bank_account.holder_name` -> `bankAccount.holderName`.

    A name in capitals stays.
    """
    return _JOINT.sub(lambda match: match.group(1).upper(), name)


def option(described: Any, extension: Any) -> Any:
    """The value of a custom option of a method, field or message; its default where it is not set."""
    return described.GetOptions().Extensions[extension]


def has_option(described: Any, extension: Any) -> bool:
    return bool(described.GetOptions().HasExtension(extension))


def is_message(field: FieldDescriptor) -> bool:
    return bool(field.type == FieldDescriptor.TYPE_MESSAGE)


def is_required(field: FieldDescriptor) -> bool:
    """True if the contract says that a request without this field is refused."""
    return field_behavior_pb2.REQUIRED in option(field, field_behavior_pb2.field_behavior)


def is_map(field: FieldDescriptor) -> bool:
    return is_message(field) and bool(message_of(field).GetOptions().map_entry)


def message_of(field: FieldDescriptor) -> Descriptor:
    """The message type of a field that has one."""
    assert field.message_type is not None
    return field.message_type


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The enum type of a field that has one."""
    assert field.enum_type is not None
    return field.enum_type


class MarkedFields:
    """The fields of messages that a rule marks, found once for each type of message."""

    def __init__(self, is_marked: Callable[[FieldDescriptor], bool]) -> None:
        self._is_marked = is_marked
        self._found: dict[Descriptor, tuple[tuple[FieldDescriptor, ...], tuple[FieldDescriptor, ...]]] = {}

    def of(self, descriptor: Any) -> tuple[tuple[FieldDescriptor, ...], tuple[FieldDescriptor, ...]]:
        """The marked fields, and the other fields within whose messages there are marked ones."""
        found = self._found.get(descriptor)
        if found is None:
            marked = tuple(field for field in descriptor.fields if self._is_marked(field))
            others = (field for field in descriptor.fields if field not in marked)
            found = marked, tuple(field for field in others if self._has_marked(field, set()))
            self._found[descriptor] = found
        return found

    @staticmethod
    def messages_in(message: Message, field: FieldDescriptor) -> Sequence[Message]:
        """The messages that a field with messages has."""
        value: Any = getattr(message, field.name)
        if not field.is_repeated:
            return (value,) if message.HasField(field.name) else ()
        return list(value.values()) if is_map(field) else value

    def _has_marked(self, field: FieldDescriptor, seen: set[str]) -> bool:
        if field.message_type is None or field.message_type.full_name in seen:
            return False
        seen.add(field.message_type.full_name)
        return any(self._is_marked(each) or self._has_marked(each, seen) for each in field.message_type.fields)
