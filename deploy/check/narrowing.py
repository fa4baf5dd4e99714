"""What one release of the contracts takes from callers of the one before it, where `buf breaking` does not look.

buf compares messages. A caller depends on more: routes, who may call, how strict a request's rules are, which fields of
an answer are always there, and what each option of ours says (options.py). Everything here reads two descriptor images
and gives sentences; none means that a client made from the old image keeps working with a server made from the new one.
Who may call stands apart: a right may be taken back, with its reason (access_taken.py).
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
from realco.type.v1 import access_pb2

from deploy.check import options

_OURS = "realco/"
_ROLES = "realco.type.v1.Access.Role"
_LOWER_BOUNDS = ("min_len", "min_bytes", "min_items", "min_pairs", "gt", "gte", "len")
_UPPER_BOUNDS = ("max_len", "max_bytes", "max_items", "max_pairs", "lt", "lte")
_TOLD_ELSEWHERE = ("required", "ignore")
_MESSAGE, _ENUM = FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM
_CHOICES = re.compile(r"\^\(([^()|]+(?:\|[^()|]+)*)\)\$")


@dataclass
class Contracts:
    """An image, by the full names of what is in it."""

    messages: dict[str, DescriptorProto] = field(default_factory=dict)
    enums: dict[str, EnumDescriptorProto] = field(default_factory=dict)
    methods: dict[str, MethodDescriptorProto] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    rules: dict[str, FieldDescriptorProto] = field(default_factory=dict)
    # Of everything that can bear some, and the names of ours.
    options: dict[str, Message] = field(default_factory=dict)
    our_options: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, image: FileDescriptorSet) -> Contracts:
        contracts = cls()
        for file in image.file:
            contracts._add_file(file)
        for file in image.file:
            for option in file.extension if file.name.startswith(_OURS) else ():
                parts = contracts.messages.get(option.type_name[1:], DescriptorProto()).field
                contracts.our_options += options.list_names(option, f"{file.package}.{option.name}", parts)
        return contracts

    def _add_file(self, file: FileDescriptorProto) -> None:
        self._add_messages(file.message_type, file.package)
        self._add_enums(file.enum_type, file.package)
        if not file.name.startswith(_OURS):
            return
        self.options[file.name] = file.options
        for service in file.service:
            self.options |= _options_within(f"{file.package}.{service.name}", service, service.method)
            self.methods |= {f"{file.package}.{service.name}.{method.name}": method for method in service.method}
        self.rules |= {rule.name: rule for rule in file.extension if rule.extendee.startswith(".buf.validate.")}
        if file.name.endswith("/events.proto"):
            self.events |= {f"{file.package}.{message.name}" for message in file.message_type}

    def _add_messages(self, messages: Iterable[DescriptorProto], scope: str) -> None:
        for message in messages:
            name = f"{scope}.{message.name}"
            self.messages[name] = message
            self.options |= _options_within(name, message, [*message.field, *message.oneof_decl])
            self._add_messages(message.nested_type, name)
            self._add_enums(message.enum_type, name)

    def _add_enums(self, enums: Iterable[EnumDescriptorProto], scope: str) -> None:
        for enum in enums:
            self.enums[f"{scope}.{enum.name}"] = enum
            self.options |= _options_within(f"{scope}.{enum.name}", enum, enum.value)

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
        *options.find_unlisted(new.our_options),
        *_changed_options(old, new),
    ]


def _options_within(name: str, described: Any, parts: Iterable[Any]) -> dict[str, Message]:
    return {name: described.options} | {f"{name}.{part.name}": part.options for part in parts}


def _changed_options(old: Contracts, new: Contracts) -> Iterator[str]:
    for name in old.options.keys() & new.options.keys():
        yield from options.find_changes(name, old.options[name], new.options[name])


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
        was, now = _option(before, annotations_pb2.http), _option(after, annotations_pb2.http)
        if was and was != now:
            yield f"{name}: its route was {_spell(was)}, is {_spell(now)}"


def _may_go(before: MethodDescriptorProto) -> bool:
    """Whether only our own services could call it, and the release that they are compared with had ceased to.

    A person's token may come with the call: what has no route is called by no other client.
    """
    return before.options.deprecated and not _option(before, annotations_pb2.http).ByteSize()


def _taken_access(name: str, before: Any, after: Any, roles: Mapping[int, str]) -> Iterator[str]:
    if before.public and not after.public:
        yield f"{name} is not public any more"
    if not after.public:
        for role in sorted(set(before.roles) - set(after.roles)):
            yield f"{name}: role {roles[role]} may not call it any more"
        for service in sorted(set(before.services) - set(after.services)):
            yield f"{name}: service {service} may not call it any more"
        for service in sorted(set(before.passed_on_by) - set(after.passed_on_by)):
            yield f"{name}: service {service} may not pass on a person's call any more"
        if after.persons_only and not before.persons_only:
            yield f"{name}: programs may not call it any more"


def _narrowed_requests(old: Contracts, new: Contracts) -> Iterator[str]:
    for name in sorted(old.requests() & new.requests()):
        yield from _narrowed_whole(name, old.messages[name], new.messages[name])
        before = {item.name: item for item in old.messages[name].field}
        for after in new.messages[name].field:
            path = f"{name}.{after.name}"
            if _is_required(after) and (after.name not in before or not _is_required(before[after.name])):
                yield f"{path} is required now"
            if after.name in before:
                was = before[after.name]
                yield from _narrowed_values(path, _taken(was, old), _taken(after, new))
                yield from _tightened(path, _rules(was), _rules(after))


def _narrowed_whole(name: str, before: DescriptorProto, after: DescriptorProto) -> Iterator[str]:
    """The rules of a request that are about several of its fields."""
    was, now = (_option(message, validate_pb2.message) for message in (before, after))
    yield from _changed_expressions(name, was.cel, now.cel)
    yield from (f"{name}: there is a new rule {text}" for text in now.cel_expression if text not in was.cel_expression)
    yield from (f"{name}: there is a new rule {_spell(one)}" for one in now.oneof if one not in was.oneof)
    required = [
        {oneof.name for oneof in message.oneof_decl if _option(oneof, validate_pb2.oneof).required}
        for message in (before, after)
    ]
    yield from (f"{name}: one of {oneof} is required now" for oneof in sorted(required[1] - required[0]))


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
    yield from options.find_changes(path, before, after)
    was, now = _by_name(before), _by_name(after)
    for name, value in now.items():
        kept = was.get(name)
        if kept == value or name in _TOLD_ELSEWHERE:
            continue
        if name in _LOWER_BOUNDS or name in _UPPER_BOUNDS:
            if kept is None or (value > kept if name in _LOWER_BOUNDS else value < kept):
                yield f"{path}: {name} is {value}, was {'not limited' if kept is None else kept}"
        elif name in ("in", "not_in"):
            if not isinstance(after, validate_pb2.EnumRules):  # by the names of their values: `_narrowed_values`
                yield from _fewer_choices(path, name, kept, value)
        elif name == "cel":
            yield from _changed_expressions(path, kept or (), value)
        elif name == "pattern" or isinstance(value, bool):
            if not allows_more(kept, value):
                yield f"{path}: the rule {name} was {'not set' if kept is None else kept}, is {value}"
        elif isinstance(value, Message):
            yield from _tightened(path, kept if kept is not None else type(value)(), value)
        else:
            yield f"{path}: the rule {name} was {'not set' if kept is None else kept}, is {value}"
    for name, kept in was.items():
        if name not in now and isinstance(kept, Message):
            yield from _tightened(path, kept, type(kept)())
    if _ignores(before) > _ignores(after):
        yield f"{path}: a value that is not set is checked now"


def _ignores(rules: Message) -> int:
    """How much the rules of a field leave unchecked: nothing, what is not set, all."""
    return int(getattr(rules, "ignore", 0))


def _fewer_choices(path: str, name: str, before: Iterable[Any] | None, after: Iterable[Any]) -> Iterator[str]:
    was, now = list(before or ()), list(after)
    if name == "in" and not was:
        yield f"{path}: nothing else is taken now than {', '.join(map(str, now))}"
    for value in [one for one in was if one not in now] if name == "in" else [one for one in now if one not in was]:
        yield f"{path}: {value} is not taken any more"


def allows_more(before: Any, after: Any) -> bool:
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
            lists[0] and lists[1] and allows_more(lists[0].group(), lists[1].group())
        ):
            yield f"{path}: the expression of {rule.id} has changed"


def _narrowed_values(path: str, before: Mapping[int, str], after: Mapping[int, str]) -> Iterator[str]:
    for number in sorted(before.keys() - after.keys()):
        yield f"{path}: {before[number]} is not taken any more"


def _taken(described: FieldDescriptorProto, contracts: Contracts) -> dict[int, str]:
    """The values of an enum that a request may give."""
    rules: Any = _rules(described)
    whole = contracts.messages.get(described.type_name[1:])
    if whole is not None and whole.options.map_entry:
        rules, described = rules.map.values.enum, whole.field[1]
    else:
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
    """The rules of protovalidate that are set; ours are options.py's."""
    return {described.name: value for described, value in rules.ListFields() if not described.is_extension}


def _spell(option: Any) -> str:
    return " ".join(str(option).split()) or "none"
