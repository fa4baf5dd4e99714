"""A request is what its proto says, or it is refused before any code of ours sees it.

Rules are those of `buf.validate` (protovalidate), and some that hold for every field of a kind and so stand nowhere in
the protos: texts, times and days are such as a store gives back as it took them, and a range begins before it ends.
They are checked in the gateway and again in each service. Answers name the field and what is wrong with it, never the
value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.descriptor import EnumValueDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from realco.type.v1 import rules_pb2

from services.chassis.calls import field_kinds
from services.chassis.values.errors import InvalidField

_VALIDATOR = protovalidate.Validator()  # keeps the compiled rules: one for the process


def parse(raw: bytes, from_string: Callable[[bytes], Message]) -> Message:
    """The message in `raw`.

    Raises:
        InvalidField: it does not parse, or has fields the proto has not.
    """
    try:
        message = from_string(raw)
    except (DecodeError, UnicodeDecodeError):
        raise InvalidField("The request is not the protobuf message this RPC takes.") from None
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()  # in C and deep: cheaper than looking for them
    if known.ByteSize() != message.ByteSize():
        raise InvalidField("The request has fields this version does not know.")
    return message


def validate(message: Message) -> None:
    """Raises InvalidField, with every fault, unless the message keeps the rules of its proto and of all fields."""
    faults = [
        (_path(violation.proto), _text(violation.proto, message))
        for violation in _VALIDATOR.collect_violations(message)
    ]
    faults += field_kinds.find_faults(message)
    if not faults:
        return
    fields: dict[str, str] = {}
    for path, text in faults:
        fields[path] = f"{fields[path]}; {text}" if path in fields else text
    summary = "; ".join(f"{path or 'request'}: {text}" for path, text in fields.items())
    raise InvalidField(f"The request is not valid: {summary}", fields=fields)


def taken_values(field: FieldDescriptor) -> list[EnumValueDescriptor]:
    """The values a request may give an enum field, or each item of a list of them: never the unspecified one."""
    assert field.enum_type is not None
    extension: Any = validate_pb2.field  # the stubs and the descriptors disagree about its type
    rules = field.GetOptions().Extensions[extension]
    enum = rules.repeated.items.enum if field.is_repeated else rules.enum
    only, never = set(getattr(enum, "in")), {0, *enum.not_in}
    return [
        value for value in field.enum_type.values if value.number not in never and (not only or value.number in only)
    ]


def warm_up(messages: list[type[Message]]) -> None:
    """Compiles the rules of these messages, so that no caller waits for it, and no bad rule waits for a caller."""
    for message in messages:
        _VALIDATOR.collect_violations(message())


def _text(violation: protovalidate.ViolationPb, request: Message) -> str:
    """What is wrong, in words. The library names enum values by their numbers, which nobody sends over REST, and
    patterns as they are written."""
    rule = violation.rule.elements if violation.rule is not None else ()
    if any(element.field_name == "enum" for element in rule):
        return f"must be one of {', '.join(value.name for value in taken_values(_field(violation, request)))}"
    if violation.rule_id == "string.pattern":
        extension: Any = validate_pb2.field  # as above
        rules = _field(violation, request).GetOptions().Extensions[extension]
        strings = rules.repeated.items.string if rules.HasField("repeated") else rules.string
        return str(strings.Extensions[rules_pb2.pattern_words])
    return violation.message or f"breaks the rule {violation.rule_id}"


def _field(violation: protovalidate.ViolationPb, request: Message) -> FieldDescriptor:
    message: Any = request.DESCRIPTOR
    for element in violation.field.elements if violation.field is not None else ():
        field: FieldDescriptor = message.fields_by_name[element.field_name]
        message = field.message_type
    return field


def _path(violation: protovalidate.ViolationPb) -> str:
    """`items[0].journal_entry`. A map's key is the caller's own text, so it is not repeated."""
    steps = []
    for element in violation.field.elements if violation.field is not None else ():
        subscript = element.subscript
        mark = "" if subscript is None else f"[{subscript.value}]" if subscript.field == "index" else "[*]"
        steps.append(element.field_name + mark)
    return ".".join(steps)
