"""What every field of a kind keeps, in every request: texts, persons, times, days, and ranges of times.

These rules stand in no proto, so that none can be without them; only that a text may have several lines is said there
(`(buf.validate.field).string.(realco.type.v1.lines) = true`), and which fields an update cannot take away
(`(realco.type.v1.not_cleared) = true`). In a batch no idempotency key stands twice: one key names one decision.

No text that people write has a number that money is drawn with, nor has a key or a value of a map: it would be stored
in the clear and shown. Looked at is every text but those of a form that leaves no choice of words, those that a machine
sends in a header, and those that no answer ever has, as the number of a bank account.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from realco.type.v1 import http_pb2, rules_pb2

from services.chassis.calls.wire import is_date, is_time
from services.chassis.values.payment_numbers import find_card_or_iban, find_payment_number
from services.chassis.values.text import find_fault, find_look_alike, has_plain_blanks, is_name, is_person
from services.chassis.values.times import DATE_RULE, TIME_RULE

_TIME, _DATE, _MASK = "google.protobuf.Timestamp", "google.type.Date", "google.protobuf.FieldMask"
_KEY = "idempotency_key"
# Rules of our own that let no control character through: what has one of them is not looked at twice.
_STRICT_RULES = (rules_pb2.id, rules_pb2.key, rules_pb2.currency)
# And those of texts that this system or an issuer of tokens made, and that are only given back.
_GIVEN_RULES = (rules_pb2.subject, rules_pb2.actor, rules_pb2.page_token, rules_pb2.etag)

PERSON_RULE = "must name a person, and neither a service nor a program"

Faults = list[tuple[str, str]]
_Search = Callable[[str], str | None]  # for what must not be in a text: why, in words for who sent it


@dataclass(frozen=True, slots=True)
class _Text:
    """What a text of a request is held to."""

    lines: bool = False  # it may have several
    is_free: bool = False  # it may look like another one: an explanation at length, or what was given to the caller
    search: _Search | None = None


@dataclass(slots=True)
class _Plan:
    """What is to be looked at in a message of one type; compiled once, since a batch has thousands of them."""

    texts: list[tuple[str, _Text]] = field(default_factory=list)
    lists_of_texts: list[tuple[str, _Text]] = field(default_factory=list)
    persons: list[tuple[str, bool]] = field(default_factory=list)  # the field, whether it is a list
    maps: list[tuple[str, _Plan | None]] = field(default_factory=list)
    messages: list[tuple[str, _Plan]] = field(default_factory=list)
    lists: list[tuple[str, _Plan]] = field(default_factory=list)
    keyed_lists: list[str] = field(default_factory=list)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    masks: list[tuple[str, Sequence[str]]] = field(default_factory=list)  # the field, the paths that it may have
    not_cleared: list[tuple[str, FieldDescriptor]] = field(default_factory=list)  # the mask that may name it; the field
    is_sound: Callable[[Any], bool] | None = None  # of a time or a day, which is one value
    rule: str = ""
    is_complete: bool = False

    @property
    def is_empty(self) -> bool:
        fields = (self.texts, self.lists_of_texts, self.persons, self.maps, self.messages, self.lists, self.keyed_lists)
        return (
            self.is_complete and self.is_sound is None and not any((*fields, self.ranges, self.masks, self.not_cleared))
        )


_PLANS: dict[str, _Plan] = {}


def find_faults(message: Message) -> Faults:
    """(the field's path, what is wrong with it)."""
    plan = _PLANS.get(message.DESCRIPTOR.full_name) or _plan_for(message.DESCRIPTOR)  # type: ignore[arg-type]  # one type of two names
    faults: Faults = []
    _collect(message, plan, "", faults)
    return faults


def ranges_of(descriptor: Descriptor) -> list[tuple[str, str]]:
    """The pairs of fields that are the two ends of a range of times or days: `from` and `to`, `from_time` and
    `to_time`, `settle_time_from` and `settle_time_to`."""
    fields = {item.name for item in descriptor.fields if _type_name(item) in (_TIME, _DATE)}
    pairs = ((name, "_".join("to" if part == "from" else part for part in name.split("_"))) for name in sorted(fields))
    return [(begin, end) for begin, end in pairs if end != begin and end in fields]


def _plan_for(descriptor: Descriptor) -> _Plan:
    known = _PLANS.get(descriptor.full_name)
    if known is not None:
        return known
    plan = _PLANS[descriptor.full_name] = _Plan()  # before its fields: a message may hold itself
    if descriptor.full_name in (_TIME, _DATE):
        is_instant = descriptor.full_name == _TIME
        plan.is_sound, plan.rule = (is_time, TIME_RULE) if is_instant else (is_date, DATE_RULE)
        return plan
    for item in descriptor.fields:
        _add_field(plan, item)
    plan.ranges = ranges_of(descriptor)
    rules: Any = validate_pb2.field  # generated stubs do not say which message it extends
    masks = (item for item in descriptor.fields if _type_name(item) == _MASK)
    plan.masks = [(item.name, getattr(item.GetOptions().Extensions[rules].field_mask, "in")) for item in masks]
    option: Any = rules_pb2.not_cleared  # as above
    plan.not_cleared = [
        (mask, item) for mask, _ in plan.masks for item in descriptor.fields if item.GetOptions().Extensions[option]
    ]
    plan.is_complete = True
    return plan


def _add_field(plan: _Plan, item: FieldDescriptor) -> None:
    inner = item.message_type
    if inner is not None and inner.GetOptions().map_entry:
        value = inner.fields_by_name["value"].message_type
        plan.maps.append((item.name, _plan_for(value) if value is not None else None))
    elif inner is not None:
        held = _plan_for(inner)
        if item.is_repeated and _KEY in inner.fields_by_name:
            plan.keyed_lists.append(item.name)
        if not held.is_empty:
            (plan.lists if item.is_repeated else plan.messages).append((item.name, held))
    elif item.type == FieldDescriptor.TYPE_STRING:
        extension: Any = validate_pb2.field  # the stubs and the descriptors disagree about its type
        rule = item.GetOptions().Extensions[extension]
        rules = rule.repeated.items.string if item.is_repeated else rule.string
        if rules.Extensions[rules_pb2.subject]:
            plan.persons.append((item.name, item.is_repeated))
        if not any(rules.HasExtension(rule) for rule in _STRICT_RULES):
            texts = plan.lists_of_texts if item.is_repeated else plan.texts
            lines, is_given = bool(rules.Extensions[rules_pb2.lines]), _is_given(rules)
            texts.append((item.name, _Text(lines, lines or is_given, _choose_search(item, rules))))


def _is_given(rules: Any) -> bool:
    return any(rules.HasExtension(rule) for rule in _GIVEN_RULES)


def _choose_search(item: FieldDescriptor, rules: Any) -> _Search | None:
    options = item.GetOptions()
    behavior: Any = field_behavior_pb2.field_behavior  # as above
    header: Any = http_pb2.header
    if rules.pattern or _is_given(rules):
        return None
    if options.HasExtension(header) or field_behavior_pb2.INPUT_ONLY in options.Extensions[behavior]:
        return None
    return find_card_or_iban if rules.HasExtension(rules_pb2.external_id) else find_payment_number


_IN_A_MAP = _Text(search=find_payment_number)


def _collect(message: Any, plan: _Plan, prefix: str, faults: Faults) -> None:
    if plan.is_sound is not None:
        if not plan.is_sound(message):
            faults.append((prefix.removesuffix("."), plan.rule))
        return
    for name, kind in plan.texts:
        _check_text(getattr(message, name), prefix + name, kind, faults)
    for name, kind in plan.lists_of_texts:
        for index, text in enumerate(getattr(message, name)):
            _check_text(text, f"{prefix}{name}[{index}]", kind, faults)
    for name, is_list in plan.persons:
        _check_persons(message, name, is_list, prefix, faults)
    for name, held in plan.messages:
        if message.HasField(name):
            _collect(getattr(message, name), held, f"{prefix}{name}.", faults)
    for name, held in plan.lists:
        for index, item in enumerate(getattr(message, name)):
            _collect(item, held, f"{prefix}{name}[{index}].", faults)
    for name in plan.keyed_lists:
        _check_keys([item.idempotency_key for item in getattr(message, name)], prefix + name, faults)
    for name, of_values in plan.maps:
        _collect_map(getattr(message, name), of_values, f"{prefix}{name}[*]", faults)
    for name, listed in plan.masks:
        # The library lets pass what is below a path of the list; nothing of ours is changed in part.
        below = tuple(f"{each}." for each in listed)
        if any(path.startswith(below) and path not in listed for path in getattr(message, name).paths):
            faults.append((prefix + name, f"must name whole fields: {', '.join(listed)}"))
    for mask, item in plan.not_cleared:
        if item.name in getattr(message, mask).paths and not _is_set(message, item):
            faults.append((prefix + item.name, "cannot be taken away"))
    for begin, end in plan.ranges:
        both = message.HasField(begin) and message.HasField(end)
        if both and _order(getattr(message, begin)) > _order(getattr(message, end)):
            faults.append((prefix + begin, "must not be after the end of the range"))


def _check_keys(keys: list[str], path: str, faults: Faults) -> None:
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key and first.setdefault(key, index) != index:
            faults.append((f"{path}[{index}].{_KEY}", f"is the key of {path}[{first[key]}], too"))


def _is_set(message: Any, item: FieldDescriptor) -> bool:
    return bool(message.HasField(item.name) if item.has_presence else getattr(message, item.name))


def _collect_map(entries: Any, of_values: _Plan | None, path: str, faults: Faults) -> None:
    """The keys are the caller's own texts, so the path does not repeat them."""
    for key in entries:
        for text in (key, entries[key]):
            if isinstance(text, str):
                _check_text(text, path, _IN_A_MAP, faults)
        if of_values is not None:
            _collect(entries[key], of_values, f"{path}.", faults)


def _check_text(text: str, path: str, kind: _Text, faults: Faults) -> None:
    # By far the most are plain, and told in no time.
    is_plain = text.isascii() and text.isprintable() and has_plain_blanks(text)
    fault = None if is_plain else find_fault(text, lines=kind.lines)
    if fault is None and not (is_plain or kind.is_free):
        fault = find_look_alike(text)
    if fault is None and kind.search is not None:
        fault = kind.search(text)
    if fault is not None:
        faults.append((path, fault))


def _check_persons(message: Any, name: str, is_list: bool, prefix: str, faults: Faults) -> None:
    """In the spelling in which they are kept: `Service:x` is one of a service, too."""
    value = getattr(message, name)
    for index, person in enumerate(value if is_list else [value]):
        if is_name(person) and not is_person(person):  # else it was refused above
            faults.append((f"{prefix}{name}[{index}]" if is_list else prefix + name, PERSON_RULE))


def _order(value: Any) -> tuple[int, ...]:
    if value.DESCRIPTOR.full_name == _TIME:
        return value.seconds, value.nanos
    return value.year, value.month, value.day


def _type_name(item: FieldDescriptor) -> str:
    return str(item.message_type.full_name) if item.message_type is not None else ""
