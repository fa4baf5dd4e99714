"""Where REST carries each field of a request, derived once from the RPC's `google.api.http` rule.

A field comes from exactly one place: the path, a header (`(realco.type.v1.header)`), the body, or, without a body, the
query. Anywhere else its name is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from realco.type.v1 import http_pb2
from starlette.datastructures import Headers

from gateway.problems import Fault, Problem, etag_required, invalid, invalid_body
from gateway.routing import Template
from services.chassis.calls import validation
from services.chassis.calls.client import KEY_FIELD
from services.chassis.spelling import scalars
from services.chassis.spelling.descriptors import has_option, is_map, is_message, is_required, message_of, option
from services.chassis.spelling.json_reader import (
    IS_REQUIRED,
    Found,
    MessageReader,
    Path,
    parse,
    pointer,
    reader_of,
)
from services.chassis.values.errors import InvalidField
from services.chassis.values.faults import EnoughFaults, Faults

HTTP_BODY = "google.api.HttpBody"
FIELD_MASK = "google.protobuf.FieldMask"
IF_MATCH = "If-Match"
# Headers by which a caller relies on something: where nobody keeps it, silence would be a false promise.
_PROMISES = ("Idempotency-Key", IF_MATCH)
VALIDATE_ONLY_FIELD = "validate_only"
_MAY_BE_EMPTY = "page_token"  # then it asks for the first page, so a list is read in a loop
_ReadBody = Callable[[Any, Headers, bytes, list[Fault]], object]
_STEP = re.compile(r"([^.\[\]]+)(?:\[([^\]]*)\])?")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field that REST carries outside of the body.

    `name` is how REST spells it, `fields` leads to it from the request message.
    """

    place: str
    name: str
    fields: tuple[FieldDescriptor, ...]
    required: bool
    read: Callable[[Any], Any]

    @property
    def field(self) -> FieldDescriptor:
        return self.fields[-1]


def find_items(method: MethodDescriptor) -> FieldDescriptor | None:
    """The field that makes a request a batch: messages that it repeats as `items`."""
    items = method.input_type.fields_by_name.get("items")
    return items if items is not None and items.is_repeated and is_message(items) and not is_map(items) else None


class Binding:
    """The request of one RPC over REST.

    Raises:
        TypeError, ValueError: the contract asks for what this gateway does not carry.
    """

    def __init__(self, method: MethodDescriptor) -> None:
        rule = option(method, annotations_pb2.http)
        verb = rule.WhichOneof("pattern")
        if verb not in ("get", "post", "put", "patch", "delete") or rule.additional_bindings:
            raise ValueError(f"{method.full_name}: one binding of a plain HTTP method is carried")
        self.method = method
        self.http_method = str(verb).upper()
        self.template = Template(getattr(rule, verb))
        self.body = rule.body
        self.request_class = GetMessageClass(method.input_type)
        self.path = [self._parameter("path", name.split(".")) for name in self.template.variables]
        self.headers = [
            self._parameter("header", [field.name])
            for field in method.input_type.fields
            if has_option(field, http_pb2.header)
        ]
        bound = frozenset(parameter.fields[0].name for parameter in (*self.path, *self.headers))
        self.body_field = method.input_type.fields_by_name[rule.body] if rule.body not in ("", "*") else None
        self.items = find_items(method)
        self.raw_body = self.body_field is not None and _type_name(self.body_field) == HTTP_BODY
        self.mask = self._mask()
        self.bound = bound | {field.name for field in (self.body_field, self.mask) if field is not None}
        self.query = {} if self.body == "*" else {one.name: one for one in self.list_parameters(self.bound)}
        self._read_body: _ReadBody | None = self._body_reader()
        self._place_of = {one.fields[0].name: one for one in (*self.path, *self.headers)}

    @property
    def has_key(self) -> bool:
        """True if the request, or each item of it, has a key under which its first answer is kept."""
        fields = self.method.input_type.fields_by_name
        return KEY_FIELD in fields or (self.items is not None and KEY_FIELD in message_of(self.items).fields_by_name)

    @property
    def may_only_validate(self) -> bool:
        """True if the request can ask for what would be, without an effect."""
        return VALIDATE_ONLY_FIELD in self.method.input_type.fields_by_name

    @property
    def takes_batch(self) -> bool:
        """True if the request is many of another one: such a body may be larger."""
        return self.items is not None

    def count_items(self, message: Message) -> int:
        """How many requests it would be without a batch."""
        return 1 if self.items is None else max(1, len(getattr(message, self.items.name)))

    def message(self, values: Sequence[str], query: bytes, headers: Headers, body: bytes) -> Message:
        """The request message, which keeps the rules of its proto.

        Raises:
            Problem: 400 with the faults found, up to as many as an answer tells.
        """
        message, missing = self.read(values, query, headers, body)
        broken: list[Fault] = []
        try:
            validation.validate(message)
        except InvalidField as refusal:
            broken = [self.fault(path, detail) for path, detail in refusal.fields.items()]
        # A rule cannot tell what is missing from zero, so of that, and of what has it inside, only this is said.
        around = {(fault.place, pointer) for fault in missing for pointer in _list_around(fault.pointer)}
        faults = [*missing, *(fault for fault in broken if (fault.place, fault.pointer) not in around)]
        if faults:
            raise invalid(faults)
        return message

    def read(
        self, values: Sequence[str], query: bytes, headers: Headers, body: bytes
    ) -> tuple[Message, Sequence[Fault]]:
        """The request message as it is written, and what the contract requires and is not written.

        Raises:
            Problem: 400 with the faults found, if the request says something that it cannot, or they are as many as an
                answer tells.
        """
        message, faults = self.request_class(), Faults[Fault]()
        try:
            for parameter, value in zip(self.path, values, strict=True):
                _assign(message, parameter, [value], faults)
            self._read_headers(message, headers, faults)
            self._read_query(message, query, faults)
            if self._read_body is not None:
                self._read_body(message, headers, body, faults)
            elif body:
                faults.append(Fault("body", "", "is not taken here"))
        except EnoughFaults:
            raise invalid(faults) from None
        if any(fault.detail != IS_REQUIRED for fault in faults):
            raise invalid(faults)
        return message, faults

    def fault(self, path: str, detail: str) -> Fault:
        """A violation of a field, by its path (`items[0].amount_minor`), placed where REST carries it.

        Args:
            path: As validation and services name it: in the names of the proto.
            detail: What is wrong.
        """
        steps = resolve(self.method.input_type, path)
        first = self.method.input_type.fields_by_name.get(steps[0].name) if steps else None
        parameter = self._place_of.get(first.name) if first is not None else None
        if parameter is not None:
            return Fault(parameter.place, f"/{parameter.name}", detail)
        spelled = pointer(tuple(part for step in steps for part in step.spelled))
        if self.body_field is not None and first is self.body_field:
            return Fault("body", spelled.removeprefix(f"/{first.json_name}"), detail)
        if self.body == "*" or not steps:
            return Fault("body" if self.body else "query", spelled, detail)
        # A parameter is named `a.b` where its field is nested; which of its values it is stands behind it.
        return Fault("query", re.sub(r"\.(\d+)", r"/\1", "/" + spelled[1:].replace("/", ".")), detail)

    def _parameter(self, place: str, names: Sequence[str]) -> Parameter:
        fields: list[FieldDescriptor] = []
        message: Descriptor | None = self.method.input_type
        for name in names:
            assert message is not None
            fields.append(message.fields_by_name[name])
            message = fields[-1].message_type
        field = fields[-1]
        if field.is_repeated and place != "query":
            raise TypeError(f"{field.full_name}: a list has no place in a {place}")
        required = place == "path" or is_required(field)
        in_json = ".".join(step.json_name for step in fields)
        name = option(field, http_pb2.header) if place == "header" else in_json
        read = scalars.read_etag if name == IF_MATCH else scalars.reader(field, text=True)
        return Parameter(place, name, tuple(fields), required, read)

    def _mask(self) -> FieldDescriptor | None:
        """The field that says which others a PATCH changes. Over REST the body says it: see `_read_patch`."""
        masks = [field for field in self.method.input_type.fields if _type_name(field) == FIELD_MASK]
        if not masks:
            return None
        if len(masks) > 1 or self.http_method != "PATCH" or self.body != "*":
            raise TypeError(f"{self.method.full_name}: a field mask is of a PATCH with the body *")
        return masks[0]

    def list_parameters(self, without: frozenset[str]) -> Iterator[Parameter]:
        """The fields that a query can carry, but for those that stand elsewhere."""
        for names in _leaves(self.method.input_type, without):
            yield self._parameter("query", names)

    def tell(self, problem: Problem) -> Problem:
        """The problem, as whoever sent such a request reads it."""
        return problem

    def _read_headers(self, message: Message, headers: Headers, faults: list[Fault]) -> None:
        for parameter in self.headers:
            values = headers.getlist(parameter.name)
            if not values:
                if parameter.required and parameter.name == IF_MATCH:
                    raise etag_required()
                if parameter.required:
                    faults.append(Fault("header", f"/{parameter.name}", IS_REQUIRED))
            elif len(values) > 1 or not values[0]:
                detail = "is given more than once" if len(values) > 1 else "is empty"
                faults.append(Fault("header", f"/{parameter.name}", detail))
            else:
                _assign(message, parameter, values, faults)
        taken = {parameter.name for parameter in self.headers}
        unkept = (name for name in _PROMISES if name in headers and name not in taken)
        faults.extend(Fault("header", f"/{name}", "is not taken here") for name in unkept)

    def _read_query(self, message: Message, query: bytes, faults: list[Fault]) -> None:
        """How many values a filter takes is a rule of the contract; how long a query may be, of the HTTP server."""
        values: dict[str, list[str]] = {}
        try:
            for name, value in parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict"):
                values.setdefault(name, []).append(value)
        except ValueError:
            faults.append(Fault("query", "", "cannot be read"))
            return
        for name, given in values.items():
            parameter = self.query.get(name)
            if parameter is None:
                known = re.fullmatch(r"[A-Za-z0-9_.]{1,64}", name)
                faults.append(Fault("query", f"/{name}" if known else "", "is not a parameter of this path"))
            elif "" in given and parameter.field.name != _MAY_BE_EMPTY:
                # A filter that was left empty by mistake must not be answered with everything.
                faults.append(Fault("query", f"/{name}", "is empty"))
            else:
                _assign(message, parameter, given, faults)
        for name, parameter in self.query.items():
            if parameter.required and name not in values:
                faults.append(Fault("query", f"/{name}", IS_REQUIRED))

    def _body_reader(self) -> _ReadBody | None:
        if not self.body:
            return None
        if self.raw_body:
            name = self.body
            return lambda message, headers, body, faults: _set_raw(getattr(message, name), headers, body)
        if self.body_field is not None:
            field_reader = reader_of(message_of(self.body_field))
            field_name = self.body_field.name
            return lambda message, headers, body, faults: _read_json(
                field_reader, getattr(message, field_name), body, faults
            )
        reader = MessageReader(self.method.input_type, without=self.bound)
        if self.mask is not None:
            return self._patch_reader(reader, self.mask.name)
        return lambda message, headers, body, faults: _read_json(reader, message, body, faults)

    def _patch_reader(self, reader: MessageReader, mask: str) -> _ReadBody:
        """A field of the body replaces what there is, as a whole, and null takes it away: no merge as in RFC 7396."""
        # Of all that is in the body, only this says nothing about the resource.
        without = {*self.bound, VALIDATE_ONLY_FIELD}
        names = {field.json_name: field.name for field in self.method.input_type.fields if field.name not in without}

        def read_patch(message: Any, headers: Headers, body: bytes, faults: list[Fault]) -> None:
            given = _read_json(reader, message, body, faults)
            getattr(message, mask).paths.extend(names[key] for key in given if key in names)

        return read_patch


def _list_around(pointer: str) -> Iterator[str]:
    """The pointer, and those to all that it is in."""
    while pointer:
        yield pointer
        pointer = pointer.rpartition("/")[0]
    yield ""


def _set_raw(target: Any, headers: Headers, body: bytes) -> None:
    target.content_type = headers.get("content-type", "")
    target.data = body


def _read_json(reader: MessageReader, message: Any, body: bytes, faults: list[Fault]) -> Collection[str]:
    """Fills the message; returns the keys the body has."""
    try:
        value = parse(body or b"{}")
    except ValueError as fault:
        raise invalid_body(str(fault)) from None
    found = Found()
    with suppress(EnoughFaults):
        reader(message, value, (), found)
    faults.extend(Fault("body", pointer(path), detail) for path, detail in found)
    return value if type(value) is dict else ()


def _assign(message: Any, parameter: Parameter, texts: Sequence[str], faults: list[Fault]) -> None:
    *path, field = parameter.fields
    for step in path:
        message = getattr(message, step.name)
    if len(texts) > 1 and not field.is_repeated:
        faults.append(Fault(parameter.place, f"/{parameter.name}", "is given more than once"))
        return
    try:
        values = [parameter.read(text) for text in texts]
    except ValueError as fault:
        faults.append(Fault(parameter.place, f"/{parameter.name}", str(fault)))
        return
    if field.is_repeated:
        getattr(message, field.name).extend(values)
    elif is_message(field):
        getattr(message, field.name).CopyFrom(GetMessageClass(message_of(field))(**values[0]))
    else:
        setattr(message, field.name, values[0])


def _leaves(message: Descriptor, without: frozenset[str] = frozenset()) -> Iterator[list[str]]:
    """The paths of the fields a query can carry, nested ones by `a.b`."""
    for field in message.fields:
        if field.name in without:
            continue
        nested = is_message(field) and _type_name(field) not in scalars.READ_MESSAGE
        if nested and field.is_repeated:
            raise TypeError(f"{field.full_name}: a list of messages has no place in a query")
        if nested:
            yield from ([field.name, *rest] for rest in _leaves(message_of(field)))
        else:
            yield [field.name]


def _type_name(field: FieldDescriptor) -> str:
    return str(field.message_type.full_name) if field.message_type is not None else ""


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    spelled: Path


def resolve(request: Descriptor, path: str) -> list[_Step]:
    """The steps of a field path as JSON spells them."""
    descriptor: Descriptor | None = request
    steps: list[_Step] = []
    for match in _STEP.finditer(path):
        name, subscript = match.groups()
        field = descriptor.fields_by_name.get(name) if descriptor is not None else None
        spelled: Path = (field.json_name if field is not None else name,)
        if subscript is not None and subscript.isdecimal():
            spelled = (*spelled, int(subscript))
        steps.append(_Step(field.name if field is not None else name, spelled))
        if field is None:
            break
        descriptor = field.message_type
    return steps
