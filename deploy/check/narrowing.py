"""What one release of the contracts takes from callers of the one before it, where `buf breaking` does not look.

buf compares messages. A caller depends on more: routes, who may call, how strict a request's rules are, and which
fields of an answer are always there. Everything here reads two descriptor images and gives sentences; none means that
a client made from the old image keeps working with a server made from the new one. Who may call stands apart: a right
may be taken back, with its reason (access_taken.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from buf.validate import validate_pb2
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from google.protobuf.message import Message
from realco.type.v1 import (
    access_pb2,
    http_pb2,
    rules_pb2,  # noqa: F401  # an image's rules of ours are read only once they are known
)

_OURS = "realco/"
_ROLES = "realco.type.v1.Access.Role"
_LOWER_BOUNDS = ("min_len", "min_bytes", "min_items", "min_pairs", "gt", "gte", "len")
_UPPER_BOUNDS = ("max_len", "max_bytes", "max_items", "max_pairs", "lt", "lte")
_MESSAGE, _ENUM = FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM
_LOOSENING = ("lines",)  # rules of ours that let through what is refused without them
_CHOICES = re.compile(r"\^\(([^()|]+(?:\|[^()|]+)*)\)\$")


@dataclass
class Contracts:
    """An image, by the full names of what is in it."""

    messages: dict[str, DescriptorProto] = field(default_factory=dict)
    enums: dict[str, EnumDescriptorProto] = field(default_factory=dict)
    methods: dict[str, MethodDescriptorProto] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    rules: dict[str, FieldDescriptorProto] = field(default_factory=dict)

    @classmethod
    def of(cls, image: FileDescriptorSet) -> Contracts:
        contracts = cls()
        for file in image.file:
            contracts._add_file(file)
        return contracts

    def _add_file(self, file: FileDescriptorProto) -> None:
        self._add_messages(file.message_type, file.package)
        self._add_enums(file.enum_type, file.package)
        if not file.name.startswith(_OURS):
            return
        for service in file.service:
            self.methods |= {f"{file.package}.{service.name}.{method.name}": method for method in service.method}
        self.rules |= {rule.name: rule for rule in file.extension if rule.extendee.startswith(".buf.validate.")}
        if file.name.endswith("/events.proto"):
            self.events |= {f"{file.package}.{message.name}" for message in file.message_type}

    def _add_messages(self, messages: Iterable[DescriptorProto], scope: str) -> None:
        for message in messages:
            name = f"{scope}.{message.name}"
            self.messages[name] = message
            self._add_messages(message.nested_type, name)
            self._add_enums(message.enum_type, name)

    def _add_enums(self, enums: Iterable[EnumDescriptorProto], scope: str) -> None:
        self.enums |= {f"{scope}.{enum.name}": enum for enum in enums}

    def names_of(self, enum: str) -> dict[int, str]:
        """The values of an enum; none where there is no such enum."""
        return {value.number: value.name for value in self.enums[enum].value} if enum in self.enums else {}

    def requests(self) -> set[str]:
        """The messages that callers send, with what is inside of them."""
        return self._within(method.input_type[1:] for method in self.methods.values())

    def answers(self) -> set[str]:
        """The messages that callers and subscribers get, with what is inside of them."""
        return self._within([*(method.output_type[1:] for method in self.methods.values()), *self.events])

    def _within(self, roots: Iterable[str]) -> set[str]:
        found: set[str] = set()
        todo = list(roots)
        while todo:
            name = todo.pop()
            if name in found or name not in self.messages:
                continue
            found.add(name)
            todo += [inner.type_name[1:] for inner in self.messages[name].field if inner.type == _MESSAGE]
        return {name for name in found if name.startswith("realco.")}


def find_narrowing(before: FileDescriptorSet, after: FileDescriptorSet) -> list[str]:
    """A sentence for each thing that a caller of `before` could rely on and of `after` cannot."""
    old, new = Contracts.of(before), Contracts.of(after)
    return [
        *_narrowed_methods(old, new),
        *_narrowed_requests(old, new),
        *_narrowed_answers(old, new),
        *_changed_rules(old, new),
    ]


def find_taken_access(before: FileDescriptorSet, after: FileDescriptorSet) -> list[str]:
    """A sentence for each who may not call an RPC any more: `access_taken` says when that may be."""
    old, new = Contracts.of(before), Contracts.of(after)
    return [
        sentence
        for name in old.methods.keys() & new.methods.keys()
        for sentence in _taken_access(
            name,
            _option(old.methods[name], access_pb2.access),
            _option(new.methods[name], access_pb2.access),
            old.names_of(_ROLES),
        )
    ]


def _narrowed_methods(old: Contracts, new: Contracts) -> Iterator[str]:
    for name, before in old.methods.items():
        after = new.methods.get(name)
        if after is None:
            if not _may_go(before):
                yield f"{name} is gone"
            continue
        for what, extension in (
            ("route", annotations_pb2.http),
            ("path of what it creates", http_pb2.created),
            ("path of the approval that it asks for", http_pb2.accepted),
        ):
            was, now = _option(before, extension), _option(after, extension)
            if was and was != now:
                yield f"{name}: its {what} was {_spell(was)}, is {_spell(now)}"
        was, now = _option(before, access_pb2.access), _option(after, access_pb2.access)
        if now.party_field and was.party_field != now.party_field:
            yield f"{name}: the party acted for is now in {now.party_field}"


def _may_go(before: MethodDescriptorProto) -> bool:
    """Whether only our own services could call it, and the release that they are compared with had ceased to."""
    access = _option(before, access_pb2.access)
    return before.options.deprecated and not (access.public or access.roles)


def _taken_access(name: str, before: Any, after: Any, roles: Mapping[int, str]) -> Iterator[str]:
    if before.public and not after.public:
        yield f"{name} is not public any more"
    if not after.public:
        for role in sorted(set(before.roles) - set(after.roles)):
            yield f"{name}: role {roles[role]} may not call it any more"
        for service in sorted(set(before.services) - set(after.services)):
            yield f"{name}: service {service} may not call it any more"


def _narrowed_requests(old: Contracts, new: Contracts) -> Iterator[str]:
    for name in sorted(old.requests() & new.requests()):
        whole = [_option(contracts.messages[name], validate_pb2.message).cel for contracts in (old, new)]
        yield from _changed_expressions(name, *whole)
        before = {item.name: item for item in old.messages[name].field}
        for after in new.messages[name].field:
            path = f"{name}.{after.name}"
            if _is_required(after) and (after.name not in before or not _is_required(before[after.name])):
                yield f"{path} is required now"
            if after.name in before:
                was = before[after.name]
                if _option(was, http_pb2.header) != _option(after, http_pb2.header):
                    yield f"{path}: the header that carries it has changed"
                yield from _narrowed_values(path, _taken(was, old), _taken(after, new))
                yield from _tightened(path, _rules(was), _rules(after))


def _narrowed_answers(old: Contracts, new: Contracts) -> Iterator[str]:
    for name in sorted(old.answers() & new.answers()):
        after = {item.name: item for item in new.messages[name].field}
        for before in old.messages[name].field:
            if before.name in after and not before.proto3_optional and after[before.name].proto3_optional:
                yield f"{name}.{before.name} is not always there any more"


def _changed_rules(old: Contracts, new: Contracts) -> Iterator[str]:
    """Rules written once for many fields (`realco/type/v1/rules.proto`)."""
    for name, before in old.rules.items():
        if name in new.rules:
            was, now = (_option(rule, validate_pb2.predefined) for rule in (before, new.rules[name]))
            yield from _changed_expressions(f"rule {name}", was.cel, now.cel)


def _tightened(path: str, before: Message, after: Message) -> Iterator[str]:
    """The rules of a field, keyword by keyword; those of items and values of lists and maps likewise."""
    was, now = _by_name(before), _by_name(after)
    for name, value in now.items():
        kept = was.get(name)
        if kept == value:
            continue
        if name in _LOWER_BOUNDS or name in _UPPER_BOUNDS:
            if kept is None or (value > kept if name in _LOWER_BOUNDS else value < kept):
                yield f"{path}: {name} is {value}, was {'not limited' if kept is None else kept}"
        elif name == "cel":
            yield from _changed_expressions(path, kept or (), value)
        elif name not in _LOOSENING and (name == "pattern" or isinstance(value, bool)):
            if not _allows_more(kept, value):
                yield f"{path}: the rule {name} was {'not set' if kept is None else kept}, is {value}"
        elif isinstance(value, Message):
            yield from _tightened(path, kept if kept is not None else type(value)(), value)
        elif name not in (
            "in",
            "not_in",
            "required",
            "ignore",
            *_LOOSENING,
        ):  # values of enums and what is required: told above
            yield f"{path}: the rule {name} was {'not set' if kept is None else kept}, is {value}"
    if "ignore" in was and "ignore" not in now:
        yield f"{path}: a value that is not set is checked now"
    for name in _LOOSENING:
        if name in was and name not in now:
            yield f"{path}: the rule {name} is gone, which let more through"


def _allows_more(before: Any, after: Any) -> bool:
    """Of two patterns that only list what they take: whether nothing was taken off the list."""
    if isinstance(after, bool):
        return not after
    was, now = (_CHOICES.fullmatch(pattern or "") for pattern in (before, after))
    return was is not None and now is not None and set(was[1].split("|")) <= set(now[1].split("|"))


def _changed_expressions(path: str, before: Iterable[Any], after: Iterable[Any]) -> Iterator[str]:
    """Whether an expression in CEL is tighter nobody can tell: one that lists what it takes may grow, else it stays."""
    was = {rule.id: rule.expression for rule in before}
    for rule in after:
        lists = [_CHOICES.search(text) for text in (was.get(rule.id, ""), rule.expression)]
        if rule.id not in was:
            yield f"{path}: there is a new rule {rule.id}"
        elif was[rule.id] != rule.expression and not (
            lists[0] and lists[1] and _allows_more(lists[0].group(), lists[1].group())
        ):
            yield f"{path}: the expression of {rule.id} has changed"


def _narrowed_values(path: str, before: Mapping[int, str], after: Mapping[int, str]) -> Iterator[str]:
    for number in sorted(before.keys() - after.keys()):
        yield f"{path}: {before[number]} is not taken any more"


def _taken(described: FieldDescriptorProto, contracts: Contracts) -> dict[int, str]:
    """The values of an enum that a request may give."""
    rules: Any = _rules(described)
    rules = rules.repeated.items.enum if described.label == FieldDescriptorProto.LABEL_REPEATED else rules.enum
    only, never = set(getattr(rules, "in")), set(rules.not_in)
    names = contracts.names_of(described.type_name[1:]) if described.type == _ENUM else {}
    return {number: name for number, name in names.items() if number not in never and (not only or number in only)}


def _is_required(described: FieldDescriptorProto) -> bool:
    behavior = _option(described, field_behavior_pb2.field_behavior)
    return field_behavior_pb2.REQUIRED in behavior or bool(getattr(_rules(described), "required", False))


def _rules(described: FieldDescriptorProto) -> Message:
    rules: Message = _option(described, validate_pb2.field)
    return rules


def _option(described: Any, extension: Any) -> Any:
    return described.options.Extensions[extension]


def _by_name(rules: Message) -> dict[str, Any]:
    return {described.name: value for described, value in rules.ListFields()}


def _spell(option: Any) -> str:
    return " ".join(str(option).split()) or "none"
