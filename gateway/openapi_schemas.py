"""JSON schemas of the contract's messages, as the readers and writers here spell them.

`buf.validate` rules become schema keywords where JSON Schema has one, and words in the description where it has none.
"""

from __future__ import annotations

from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from realco.type.v1 import rules_pb2

from gateway import contracts, scalars
from gateway.binding import is_required
from gateway.descriptors import enum_of, is_map, is_message, message_of, option
from gateway.json_writer import always_there
from gateway.wording import in_rest_words

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


class Schemas:
    """Component schemas by name, added as they are referred to.

    Args:
        requests: Full names of the messages a request can hold. What is required of them is what a request must give;
            of the others it is what every answer has.
        answers: Those an answer can hold. Answers may grow; what only requests hold is closed.
    """

    def __init__(self, requests: frozenset[str], answers: frozenset[str]) -> None:
        self.components: dict[str, Schema] = {}
        self._requests = requests
        self._answers = answers
        self._owners: dict[str, str] = {}

    def reference(self, descriptor: Descriptor) -> Schema:
        """A `$ref` to the message's schema."""
        name = self._name(descriptor.full_name)
        if name not in self.components:
            self.components[name] = {}  # a message that holds itself refers to this
            self.components[name] = self.message(descriptor)
        return {"$ref": f"#/components/schemas/{name}"}

    def message(self, descriptor: Descriptor, without: frozenset[str] = frozenset()) -> Schema:
        """The message's own schema, without the fields that REST carries elsewhere."""
        fields = [field for field in descriptor.fields if field.name not in without]
        schema: Schema = {
            "type": "object",
            "properties": {field.json_name: self.field(field) for field in fields},
        }
        if descriptor.full_name in self._requests:
            required = [field.json_name for field in fields if is_required(field) or _refuses_empty(field)]
            if descriptor.full_name not in self._answers:
                schema["additionalProperties"] = False
        else:
            required = [field.json_name for field in fields if always_there(field)]
        if required:
            schema["required"] = required
        describe(schema, descriptor)
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """A field's schema with its comment and rules."""
        rules = rules_of(field)
        if is_map(field):
            value = message_of(field).fields_by_name["value"]
            schema: Schema = {"type": "object", "additionalProperties": self._value(value, rules.map.values)}
        elif field.is_repeated:
            schema = {"type": "array", "items": self._value(field, rules.repeated.items)}
            _apply(schema, rules.repeated, {"min_items": "minItems", "max_items": "maxItems"})
            if rules.repeated.unique:
                schema["uniqueItems"] = True
        else:
            schema = self._value(field, rules)
        words = [contracts.comments().get(field.full_name, ""), *(f"Rule: {rule.message}." for rule in rules.cel)]
        owner = field.containing_type
        description = "\n\n".join(in_rest_words(word, owner) for word in words if word)
        if description:
            schema["description"] = description
        return schema

    def _value(self, field: FieldDescriptor, rules: Any) -> Schema:
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self._enum(enum_of(field), rules)
        if is_message(field):
            string_like = _STRING_LIKE.get(message_of(field).full_name)
            return dict(string_like) if string_like else self.reference(message_of(field))
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

    def _enum(self, enum: EnumDescriptor, rules: Any) -> Schema:
        """The whole enum by reference; only the values that are taken where a rule says so."""
        allowed = set(getattr(rules.enum, "in"))
        if allowed:
            return {"type": "string", "enum": [value.name for value in enum.values if value.number in allowed]}
        name = self._name(enum.full_name)
        if name not in self.components:
            values = [value for value in enum.values if value.number != 0]
            scope = enum.full_name.rpartition(".")[0]
            comments = contracts.comments()
            notes = [
                f"- `{one.name}`: {in_rest_words(comments.get(f'{enum.full_name}.{one.name}', ''))}" for one in values
            ]
            schema: Schema = {"type": "string", "enum": [value.name for value in values]}
            about = in_rest_words(comments.get(enum.full_name, scope))
            schema["description"] = "\n".join([about, "", *notes])
            self.components[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}

    def _name(self, full_name: str) -> str:
        """`realco.escrow.v1.EscrowAccount.Status` -> `EscrowAccount.Status`; no two may come out the same."""
        name = full_name.split(".", 3)[3] if full_name.startswith("realco.") else full_name.rpartition(".")[2]
        owner = self._owners.setdefault(name, full_name)
        if owner != full_name:
            raise ValueError(f"two schemas called {name}: {owner} and {full_name}")
        return name


def rules_of(field: FieldDescriptor) -> Any:
    """The `buf.validate.FieldRules` of a field."""
    return option(field, validate_pb2.field)


def describe(schema: Schema, message: Descriptor) -> None:
    comment = contracts.comments().get(message.full_name)
    if comment:
        schema["description"] = in_rest_words(comment, message)


def messages_within(descriptor: Descriptor) -> set[str]:
    """The full names of a message and of every message it can hold."""
    found: set[str] = set()
    waiting = [descriptor]
    while waiting:
        message = waiting.pop()
        if message.full_name not in found:
            found.add(message.full_name)
            waiting.extend(field.message_type for field in message.fields if field.message_type is not None)
    return found


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
        return {"pattern": f"^{rules.Extensions[rules_pb2.id]}_[0-9a-hjkmnp-tv-z]{{26}}$"}
    if rules.HasExtension(rules_pb2.key):
        return {"pattern": "^[!-~]{1,255}$"}
    if rules.HasExtension(rules_pb2.party):
        return {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"}
    if rules.HasExtension(rules_pb2.page_token):
        return {"maxLength": 1024}
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
