"""A request is what its proto says, or it is refused before any code of ours sees it.

Rules are those of `buf.validate` (protovalidate), and some that hold for every field of a kind and so stand nowhere in
the protos: texts, times and days are such as a store gives back as it took them, and a range begins before it ends.
They are checked in the gateway and again in each service. Answers name the field and what is wrong with it, never the
value; a map's key only where it is itself what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.descriptor import EnumValueDescriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from realco.type.v1 import http_pb2, rules_pb2

from services.chassis.calls import field_kinds, sizes
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import EtagRequired
from services.chassis.values.faults import FAULTS_MAX

_VALIDATOR = protovalidate.Validator()  # keeps the compiled rules: one for the process
_KEY_MAX = 64  # letters of a key that is wrong are repeated
_UNKNOWN_MAX = 16  # that are named: an answer's headers do not take any number of them


def parse(raw: bytes, from_string: Callable[[bytes], Message]) -> Message:
    """The message in `raw`.

    Raises:
        InvalidField: it does not parse, or has fields the proto has not: `items[0].99`, by their numbers.
    """
    try:
        message = from_string(raw)
    except (DecodeError, UnicodeDecodeError):
        raise InvalidField("The request is not the protobuf message this RPC takes.") from None
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()  # in C and deep: cheaper than looking for them
    if known.ByteSize() != message.ByteSize():
        unknown = dict.fromkeys(islice(_find_unknown(message), _UNKNOWN_MAX), "is not a field that this version knows")
        raise InvalidField(f"The request has fields this version does not know: {', '.join(unknown)}.", fields=unknown)
    return message


def validate(message: Message) -> None:
    """The message keeps the rules of its proto and of all fields.

    Raises:
        InvalidField: with every fault, up to FAULTS_MAX.
        EtagRequired: it must say which version was read, and does not.
    """
    if (excess := sizes.find_excess(message)) is not None:
        path, text = excess
        raise InvalidField(f"The request is not valid: {path}: {text}", fields={path: text})
    violations = [violation.proto for violation in _VALIDATOR.collect_violations(message)]
    for path in (_path(violation, message) for violation in violations if _lacks_etag(violation, message)):
        about = "The etag is required: of the answer that this write was decided on."
        raise EtagRequired(about, fields={path: "is required"})
    faults = [(_path(violation, message), _text(violation, message)) for violation in violations[:FAULTS_MAX]]
    faults += field_kinds.find_faults(message)[: FAULTS_MAX - len(faults)]
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


def _find_unknown(message: Message, prefix: str = "") -> Iterator[str]:
    """The paths of the fields that the proto has not, which have a number and no name."""
    unknown = UnknownFieldSet(message)
    yield from (f"{prefix}{unknown[index].field_number}" for index in range(len(unknown)))
    for field, value in message.ListFields():
        entry = field.message_type
        if entry is None or (entry.GetOptions().map_entry and entry.fields_by_name["value"].message_type is None):
            continue
        if entry.GetOptions().map_entry:
            inner = [("[*]", item) for item in value.values()]
        else:
            inner = [(f"[{index}]", item) for index, item in enumerate(value)] if field.is_repeated else [("", value)]
        for mark, item in inner:
            yield from _find_unknown(item, f"{prefix}{field.name}{mark}.")


def warm_up(messages: list[type[Message]]) -> None:
    """Compiles the rules of these messages, so that no caller waits for it, and no bad rule waits for a caller."""
    for message in messages:
        sizes.find_excess(message())
        _VALIDATOR.collect_violations(message())


def _lacks_etag(violation: protovalidate.ViolationPb, request: Any) -> bool:
    """True of the etag of what is written, which REST has in a header, where every request must have it: one that may
    be left out says itself whether it was set. The etag of what was only read, such as an offering that is invested in,
    is a field like any other."""
    if violation.rule_id != "string.etag":
        return False
    field = request.DESCRIPTOR.fields_by_name.get(_path(violation, request))
    if field is None or field.has_presence or not field.GetOptions().HasExtension(http_pb2.header):
        return False
    return not getattr(request, field.name)


def _text(violation: protovalidate.ViolationPb, request: Message) -> str:
    """What is wrong, in words. The library names enum values by their numbers, which nobody sends over REST, patterns
    as they are written, and a choice by the name of its oneof, which stands in no request."""
    if (choice := _choice(violation, request)) is not None:
        return f"must have one of {', '.join(field.name for field in choice.fields)}"
    rule = violation.rule.elements if violation.rule is not None else ()
    if any(element.field_name == "enum" for element in rule):
        return f"must be one of {', '.join(value.name for value in taken_values(_field(violation, request)))}"
    if violation.rule_id == "string.pattern":
        extension: Any = validate_pb2.field  # as above
        rules = _field(violation, request).GetOptions().Extensions[extension]
        strings = rules.repeated.items.string if rules.HasField("repeated") else rules.string
        return str(strings.Extensions[rules_pb2.pattern_words])
    about = violation.message or f"breaks the rule {violation.rule_id}"
    if not violation.for_key:
        return about
    # Which of up to fifty it is, only the key can say.
    key = str(_elements(violation)[-1].subscript.value)[:_KEY_MAX]
    return f"the key '{''.join(letter if letter.isprintable() else '?' for letter in key)}' {about}"


def _field(violation: protovalidate.ViolationPb, request: Message) -> FieldDescriptor:
    field = _holder(violation, request).fields_by_name[_last(violation)]
    assert field is not None
    return field


def _choice(violation: protovalidate.ViolationPb, request: Message) -> OneofDescriptor | None:
    """The oneof of which no field is set, if that is what is wrong."""
    return _holder(violation, request).oneofs_by_name.get(_last(violation)) if _elements(violation) else None


def _holder(violation: protovalidate.ViolationPb, request: Message) -> Any:
    """The descriptor of the message that holds what breaks the rule."""
    message: Any = request.DESCRIPTOR
    for element in _elements(violation)[:-1]:
        message = message.fields_by_name[element.field_name].message_type
    return message


def _elements(violation: protovalidate.ViolationPb) -> Sequence[Any]:
    return violation.field.elements if violation.field is not None else ()


def _last(violation: protovalidate.ViolationPb) -> str:
    return str(_elements(violation)[-1].field_name)


def _path(violation: protovalidate.ViolationPb, request: Message) -> str:
    """`items[0].journal_entry`. A map's key is the caller's own text, so it is not repeated; nor is a oneof a field, so
    a choice that is not made is said of the message that must make it."""
    elements = _elements(violation)
    steps = []
    for element in elements[:-1] if _choice(violation, request) is not None else elements:
        subscript = element.subscript
        mark = "" if subscript is None else f"[{subscript.value}]" if subscript.field == "index" else "[*]"
        steps.append(element.field_name + mark)
    return ".".join(steps)
