"""What an investor is not told of an answer: fields that the contract marks, wherever in the answer they are.

The kept answer of an idempotency key is whole: what is withheld depends on who asks.
"""

from __future__ import annotations

from collections.abc import Set
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from realco.type.v1 import visibility_pb2

from services.chassis.calls.auth import Principal
from services.chassis.spelling.descriptors import MarkedFields, is_map, option
from services.chassis.spelling.json_writer import is_withheld
from services.chassis.values.text import SERVICE_PREFIX


def withhold(answer: Message, principal: Principal, request: Message | None = None) -> None:
    """Empties, in place, what the principal is not told.

    Args:
        request: Of a list: it finds nothing by what is not told, or whoever guesses it would be told so.
    """
    if principal.confined:
        _withhold(answer, principal.person)
        if request is not None:
            _leave_out(answer, {field.name for field, value in request.ListFields() if field.is_repeated and value})


def _leave_out(answer: Message, asked_by: Set[str]) -> None:
    """What a list found by a field that was withheld."""
    fields: Any = answer.DESCRIPTOR.fields
    for field in fields:
        if field.message_type is None or not field.is_repeated or is_map(field):
            continue
        names = {marked.name for marked in _MARKED.of(field.message_type)[0]} & asked_by
        found = getattr(answer, field.name)
        for place in reversed(range(len(found)) if names else ()):
            if not all(found[place].HasField(name) for name in names):
                del found[place]


@cache
def author_of(field: FieldDescriptor) -> str:
    """The field that names who is told besides staff; empty where the contract names none."""
    name: str = option(field, visibility_pb2.told_by_author)
    return name


_MARKED = MarkedFields(is_withheld)


def _withhold(message: Message, person: str) -> None:
    marked, inner = _MARKED.of(message.DESCRIPTOR)
    for name in [field.name for field in marked if not _is_told(message, field, person)]:
        message.ClearField(name)
    for field in inner:
        for item in MarkedFields.messages_in(message, field):
            _withhold(item, person)


def _is_told(message: Message, field: FieldDescriptor, person: str) -> bool:
    return is_told_to(person, getattr(message, author_of(field), ""))


def is_told_to(person: str, author: str) -> bool:
    """Whether an investor is told what this author wrote."""
    return bool(author) and (author == person or author.startswith(SERVICE_PREFIX))
