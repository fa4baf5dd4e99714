"""JSON schemas of the contract's messages, as the readers and writers here spell them.

`buf.validate` rules become schema keywords where JSON Schema has one, and words in the description where it has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, EnumValueDescriptor, FieldDescriptor
from realco.type.v1 import rules_pb2, visibility_pb2

from gateway import contracts
from gateway.wording import in_rest_words
from services.chassis.calls.validation import taken_values
from services.chassis.spelling import scalars
from services.chassis.spelling.descriptors import enum_of, is_map, is_message, is_required, message_of, option
from services.chassis.spelling.json_writer import always_there, is_withheld
from services.chassis.spelling.visibility import author_of

Schema = dict[str, Any]

_STRING_LIKE: dict[str, Schema] = {
    "google.protobuf.Timestamp": {
        "type": "string",
        "format": "date-time",
        "examples": ["2026-01-31T12:00:00Z"],
    },
    "google.type.Date": {"type": "string", "format": "date", "examples": ["2026-01-31"]},
}
_PLAIN: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64", "pattern": scalars.INT64_PATTERN},
}
_FROM_ZERO, _FROM_ONE = r"^(0|[1-9][0-9]{0,18})$", r"^[1-9][0-9]{0,18}$"

# The same in requests and answers, so that what was answered can be sent: its rules are those of ISO 4217 and int64.
_MONEY = "realco.type.v1.Money"


class Side(Enum):
    """Requests are closed: what is not described is refused. Answers are open: they may grow."""

    REQUEST = "Input"
    ANSWER = ""


class Schemas:
    """Component schemas by name, added as they are referred to.

    What a request holds is `<name>Input`, whether an answer has it too or not: one day it may, and a name that
    generated code has never changes. In a request is required what must be given, and an enum lists the values that are
    taken; in an answer is required what is always there, and an enum is any text, with the values known today.
    """

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._owners: dict[str, str] = {}

    def reference(self, descriptor: Descriptor, side: Side) -> Schema:
        """A `$ref` to the message's schema."""
        name = self._name(descriptor.full_name) + ("" if descriptor.full_name == _MONEY else side.value)
        if name not in self.components:
            self.components[name] = {}  # a message that holds itself refers to this
            self.components[name] = self.message(descriptor, side)
        return {"$ref": f"#/components/schemas/{name}"}

    def message(self, descriptor: Descriptor, side: Side, without: frozenset[str] = frozenset()) -> Schema:
        """The message's own schema, without the fields that REST carries elsewhere."""
        fields = [field for field in descriptor.fields if field.name not in without]
        schema: Schema = {
            "type": "object",
            "properties": {field.json_name: self.field(field, side) for field in fields},
        }
        must = _must_be_given if side is Side.REQUEST else always_there
        required = [field.json_name for field in fields if must(field)]
        if required:
            schema["required"] = required
        if side is Side.REQUEST and descriptor.full_name != _MONEY:
            schema["additionalProperties"] = False
        comment = contracts.comments().get(descriptor.full_name)
        if comment:
            schema["description"] = in_rest_words(comment, descriptor)
        return schema

    def field(self, field: FieldDescriptor, side: Side) -> Schema:
        """A field's schema with its comment, and in requests with its rules: what is answered may be wider one day."""
        is_open = side is Side.ANSWER and not field.full_name.startswith(f"{_MONEY}.")
        rules = validate_pb2.FieldRules() if is_open else rules_of(field)
        if is_map(field):
            value = message_of(field).fields_by_name["value"]
            schema: Schema = {"type": "object", "additionalProperties": self._value(value, rules.map.values, side)}
            _apply(schema, rules.map, {"min_pairs": "minProperties", "max_pairs": "maxProperties"})
            key = self._value(message_of(field).fields_by_name["key"], rules.map.keys, side)
            if key.keys() > {"type"}:
                schema["propertyNames"] = key
        elif field.is_repeated:
            schema = {"type": "array", "items": self._value(field, rules.repeated.items, side)}
            _apply(schema, rules.repeated, {"min_items": "minItems", "max_items": "maxItems"})
            if rules.repeated.unique:
                schema["uniqueItems"] = True
        else:
            schema = self._value(field, rules, side)
        words = [contracts.comments().get(field.full_name, ""), *(f"Rule: {rule.message}." for rule in rules.cel)]
        if field.type == FieldDescriptor.TYPE_ENUM and side is Side.REQUEST:
            words.append(_notes(taken_values(field)))
        if side is Side.ANSWER:
            words.append(_describe_visibility(field))
        owner = field.containing_type
        description = "\n\n".join(in_rest_words(word, owner) for word in words if word)
        if description:
            schema["description"] = description
        return schema

    def _value(self, field: FieldDescriptor, rules: Any, side: Side) -> Schema:
        if field.type == FieldDescriptor.TYPE_ENUM:
            if side is Side.REQUEST:
                return {"type": "string", "enum": [value.name for value in taken_values(field)]}
            return self._open_enum(enum_of(field))
        if is_message(field):
            string_like = _STRING_LIKE.get(message_of(field).full_name)
            return dict(string_like) if string_like else self.reference(message_of(field), side)
        schema = dict(_PLAIN[field.type])
        if field.type == FieldDescriptor.TYPE_STRING:
            _apply(
                schema,
                rules.string,
                {"pattern": "pattern", "min_len": "minLength", "max_len": "maxLength", "len": "minLength"},
            )
            schema |= _string_extensions(rules.string)
        elif field.type == FieldDescriptor.TYPE_INT32:
            names = {"gt": "exclusiveMinimum", "gte": "minimum", "lt": "exclusiveMaximum", "lte": "maximum"}
            _apply(schema, rules.int32, names)
            if rules.int32.HasExtension(rules_pb2.page_size):
                schema["minimum"] = 0
        elif field.type == FieldDescriptor.TYPE_INT64:
            schema["pattern"] = _int64_pattern(rules.int64)
        return schema

    def _open_enum(self, enum: EnumDescriptor) -> Schema:
        name = self._name(enum.full_name)
        if name not in self.components:
            values = [value for value in enum.values if value.number != 0]
            about = contracts.comments().get(enum.full_name, "")
            # Generators call the list of known values by its title.
            known = {
                "title": f"Known{name.replace('.', '')}",
                "type": "string",
                "enum": [value.name for value in values],
            }
            self.components[name] = {
                "description": in_rest_words("\n\n".join([about, "Values may be added.", _notes(values)])),
                "anyOf": [known, {"type": "string"}],
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _name(self, full_name: str) -> str:
        """`realco.escrow.v1.EscrowAccount.Status` -> `EscrowAccount.Status`; no two may come out the same."""
        name = full_name.split(".", 3)[3] if full_name.startswith("realco.") else full_name.rpartition(".")[2]
        owner = self._owners.setdefault(name, full_name)
        if owner != full_name:
            raise ValueError(f"two schemas called {name}: {owner} and {full_name}")
        return name


def _must_be_given(field: FieldDescriptor) -> bool:
    return is_required(field) or _refuses_empty(field)


def _describe_visibility(field: FieldDescriptor) -> str:
    """Who is told the field; nothing where everybody is who gets the answer."""
    if option(field, visibility_pb2.not_in_lists):
        return "Absent in lists."
    if not is_withheld(field):
        return ""
    author = author_of(field)
    if author:
        return f"Absent for an investor, unless `{author}` is the investor or one of our services."
    return "Absent for an investor."


def _notes(values: Sequence[EnumValueDescriptor]) -> str:
    comments = contracts.comments()
    scope = values[0].type.full_name
    return "\n".join(f"- `{value.name}`: {comments.get(f'{scope}.{value.name}', '')}" for value in values)


def rules_of(field: FieldDescriptor) -> Any:
    """The `buf.validate.FieldRules` of a field."""
    return option(field, validate_pb2.field)


def _apply(schema: Schema, rules: Any, names: dict[str, str]) -> None:
    """Copies the rules that are set under the keywords JSON Schema has for them."""
    for rule, keyword in names.items():
        if rules.HasField(rule):
            schema[keyword] = getattr(rules, rule)
            if rule == "len":
                schema["maxLength"] = rules.len


def _string_extensions(rules: Any) -> Schema:
    """What our own rules of `realco/type/v1/rules.proto` say in JSON Schema."""
    if rules.HasExtension(rules_pb2.id):
        return {"pattern": f"^{rules.Extensions[rules_pb2.id]}_[0-9A-Za-z_-]+$", "maxLength": 255}
    if rules.HasExtension(rules_pb2.key):
        return {"pattern": "^[!-~]{1,255}$"}
    if rules.HasExtension(rules_pb2.currency):  # answers may name a currency that is new by then, so no list of them
        return {"pattern": "^[A-Z]{3}$"}
    if rules.HasExtension(rules_pb2.metadata_key):
        return {"pattern": "^[A-Za-z0-9_-]{1,64}$"}
    if rules.HasExtension(rules_pb2.page_token):
        return {"maxLength": 1024}
    if rules.HasExtension(rules_pb2.external_id):
        return {"minLength": 1, "maxLength": 128}
    if rules.HasExtension(rules_pb2.etag) or rules.HasExtension(rules_pb2.actor):
        return {"minLength": 1, "maxLength": 255}
    return {}


def _int64_pattern(rules: Any) -> str:
    least = rules.gt + 1 if rules.HasField("gt") else rules.gte if rules.HasField("gte") else scalars.INT64_MIN
    if least >= 1:
        return _FROM_ONE
    return _FROM_ZERO if least >= 0 else scalars.INT64_PATTERN


def _refuses_empty(field: FieldDescriptor) -> bool:
    """True if the rules refuse a request without it, whatever its annotation says."""
    rules = rules_of(field)
    if rules.required:
        return True
    return field.is_repeated and rules.repeated.min_items > 0
