"""What a release may do with each option and rule of ours that an RPC, a message or a field bears: one table.

Every one of them is a promise to somebody: who may call, what an event says, how REST spells a text. One that is not in
the table may not come into the contracts at all, so nobody forgets to decide what may become of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Flag, auto
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import Message
from realco.type.v1 import access_pb2, approval_pb2, event_pb2, http_pb2, rules_pb2, service_pb2, visibility_pb2


class May(Flag):
    """What may happen to an option where it is kept: `False` and an empty text are the same as not set."""

    NOTHING = 0
    BE_SET = auto()
    BE_TAKEN_OFF = auto()
    CHANGE = auto()
    ANYTHING = BE_SET | BE_TAKEN_OFF | CHANGE


# Of an option that is a message, each field; of a list, each of its values by itself.
_TABLE: dict[Any, May | dict[str, May]] = {
    access_pb2.access: {
        # Rights may be taken back, with notice: `narrowing.find_taken_access` tells of them.
        "roles": May.ANYTHING,
        "services": May.ANYTHING,
        "passed_on_by": May.ANYTHING,
        "public": May.ANYTHING,
        "persons_only": May.ANYTHING,
        "guarded": May.ANYTHING,
        "party_field": May.NOTHING,
        # A second person whose no needs no fresh sign-in is spared something.
        "says_no": May.BE_SET,
    },
    approval_pb2.four_eyes: {
        # Where one decision takes the place of another, it is the new one that is told. The reason is words.
        "one_person": May.CHANGE | May.BE_TAKEN_OFF,
        "two_persons": May.BE_TAKEN_OFF,
        "second_person": May.BE_TAKEN_OFF,
        "waits": May.BE_TAKEN_OFF,
        # Who may read an approval follows who may read what it is about.
        "read_with": May.CHANGE | May.BE_TAKEN_OFF,
        # Without it the caller waits for a person, which every caller can do.
        "spared_by": May.ANYTHING,
    },
    event_pb2.event: {"aggregate": May.NOTHING, "scope": May.NOTHING, "parts": May.NOTHING},
    event_pb2.not_in_events: May.BE_TAKEN_OFF,
    event_pb2.version_of: May.NOTHING,
    http_pb2.header: May.NOTHING,
    http_pb2.keys_are_names: May.NOTHING,
    http_pb2.is_field_name: May.NOTHING,
    http_pb2.created: May.NOTHING,
    http_pb2.accepted: May.NOTHING,
    service_pb2.served_by: {"rest": May.NOTHING, "others": May.BE_SET},
    visibility_pb2.staff_only: May.BE_TAKEN_OFF,
    visibility_pb2.told_by_author: May.BE_TAKEN_OFF,
    visibility_pb2.not_in_lists: May.BE_TAKEN_OFF,
    rules_pb2.not_cleared: May.BE_TAKEN_OFF,
    rules_pb2.id: May.BE_TAKEN_OFF,
    rules_pb2.key: May.BE_TAKEN_OFF,
    rules_pb2.subject: May.BE_TAKEN_OFF,
    rules_pb2.actor: May.BE_TAKEN_OFF,
    rules_pb2.page_token: May.BE_TAKEN_OFF,
    rules_pb2.currency: May.BE_TAKEN_OFF,
    rules_pb2.external_id: May.BE_TAKEN_OFF,
    rules_pb2.etag: May.BE_TAKEN_OFF,
    rules_pb2.metadata_key: May.BE_TAKEN_OFF,
    rules_pb2.page_size: May.BE_TAKEN_OFF,
    # It lets through what is refused without it.
    rules_pb2.lines: May.BE_SET,
    # Words for whoever breaks a pattern.
    rules_pb2.pattern_words: May.ANYTHING,
}
OPTIONS: dict[str, May] = {
    f"{option.full_name}.{field}" if field else option.full_name: may
    for option, row in _TABLE.items()
    for field, may in (row.items() if isinstance(row, dict) else [("", row)])
}


def find_unlisted(names: Iterable[str]) -> Iterator[str]:
    """A sentence for each option of the contracts that nobody decided about, and for each decision about none."""
    declared = set(names)
    yield from (f"option {name} is not in the table of deploy/check/options.py" for name in declared - OPTIONS.keys())
    yield from (f"deploy/check/options.py has {name}, which is no option" for name in OPTIONS.keys() - declared)


def list_names(option: FieldDescriptorProto, name: str, fields: Iterable[FieldDescriptorProto]) -> list[str]:
    """The names in the table of an option that is declared as `name`: where it is a message it has these fields."""
    if option.type == FieldDescriptorProto.TYPE_MESSAGE:
        return [f"{name}.{field.name}" for field in fields]
    return [name]


def find_changes(path: str, before: Message, after: Message) -> Iterator[str]:
    """A sentence for each option of what is at `path` that was set, taken off or changed and may not be."""
    was, now = _read(before), _read(after)
    for name in sorted(was.keys() | now.keys()):
        may, option = OPTIONS.get(name, May.NOTHING), f"{path}: {name.removeprefix('realco.type.v1.')}"
        old, new = was.get(name), now.get(name)
        if isinstance(old, list) or isinstance(new, list):
            gone = [value for value in old or () if value not in (new or ())]
            came = [value for value in new or () if value not in (old or ())]
        elif old and new:
            gone, came = [], []
            if old != new and May.CHANGE not in may:
                yield f"{option} was {old}, is {new}"
        else:
            gone, came = [old] if old else [], [new] if new else []
        yield from (f"{option} was {value}, and is taken off" for value in gone if May.BE_TAKEN_OFF not in may)
        yield from (f"{option} is {value} now, and was not set" for value in came if May.BE_SET not in may)


def _read(options: Message) -> dict[str, Any]:
    """The options of ours that are set, by their names in the table."""
    found: dict[str, Any] = {}
    for option, value in options.ListFields():
        if option.is_extension and option.full_name.startswith("realco."):
            if isinstance(value, Message):
                for field, part in value.ListFields():
                    found[f"{option.full_name}.{field.name}"] = list(part) if field.is_repeated else part
            else:
                found[option.full_name] = value
    return found
