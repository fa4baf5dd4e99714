"""That the records by which somebody decides were restored: what they lack, and who looked through that."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.chassis.values.errors import Unavailable
from services.chassis.values.explanation import HOUSE_RULE, Explanation, spell_gate
from services.chassis.values.text import quote
from services.chassis.values.times import write_time

# For how long whoever decides is told of a restore: by then what was missing has been done again, or is known.
RESTORED_DAYS = 30
KINDS_TOLD_MAX = 20
RULE = "RESTORED"
# In the place of a key's id: every key that is not known.
ANY_KEY = "any"
_LINES_MAX = 20


class Unread(NamedTuple):
    """Messages of before that nobody looked at, since a person passed over them.

    Args:
        kid: The key that they say to be signed with, which is not known, or ANY_KEY; empty: the stream has them no
            more.
        person: Who passed over them.
    """

    kid: str
    person: str
    message_count: int


@dataclass(frozen=True, slots=True)
class Restore:
    """The restore that the incarnation of a database began with.

    Args:
        is_recent: It was less than RESTORED_DAYS ago, by the database's clock.
        seen_by: Who said first that they had looked through what it forgot, and when.
        unread: The messages that were not looked at, as `spell_unread` tells them; and how many they are.
    """

    incarnation: str
    begun_at: datetime
    is_recent: bool
    seen_by: str | None = None
    seen_at: datetime | None = None
    unread: tuple[str, ...] = ()
    unread_count: int = 0

    @property
    def is_seen(self) -> bool:
        return self.seen_by is not None


class Told(NamedTuple):
    """An event as its service told it.

    Args:
        made_at: By the clock of the process that made it.
        aggregate_version: Its number among those of the aggregate.
    """

    org_id: str
    event_id: uuid.UUID
    made_at: datetime
    aggregate_id: str
    aggregate_version: int


class RestoreNotSeen(Unavailable):
    """Nobody has looked through what the restored records lack. Once an operator has, the same request counts."""

    reason = "RESTORE_NOT_SEEN"
    retry_after_seconds = 60

    def __init__(self, restored_at: datetime | None) -> None:
        super().__init__(
            "Records were restored from a backup: no yes counts, and no other service goes by them, before an operator"
            " has looked through what they lack (docs/operations.md, After a restore). You may say no.",
            restore_time=restored_at,
        )


def check_seen(restore: Restore | None) -> None:
    """Raises: RestoreNotSeen."""
    if restore is not None and not restore.is_seen:
        raise RestoreNotSeen(restore.begun_at)


def explain_restore(restore: Restore, forgotten: Sequence[tuple[str, int]]) -> Explanation:
    """For whoever decides by restored records.

    Args:
        forgotten: Of the organization, the types of events that are not in them, each with how many: most first.
    """
    count = sum(number for _, number in forgotten)
    what = f"{spell_count(count)} not in them" if count else "no event of before is known to be missing"
    if restore.unread_count:
        was = "message of before was" if restore.unread_count == 1 else "messages of before were"
        what += f"; {restore.unread_count:,} {was} not looked at ({'; '.join(restore.unread[:2])})"
    seen = (
        f"{quote(restore.seen_by)} looked through what is missing"
        if restore.seen_by
        else "nobody has looked through it yet"
    )
    told = [(name_event(event_type), f"{number:,}") for event_type, number in forgotten[:KINDS_TOLD_MAX]]
    if rest := forgotten[KINDS_TOLD_MAX:]:
        told.append((f"{len(rest)} other kinds", f"{sum(number for _, number in rest):,}"))
    operands = [("restored", write_time(restore.begun_at)), *told]
    operands += [("not looked at", line) for line in restore.unread]
    if restore.seen_by is not None and restore.seen_at is not None:
        operands += [("looked through by", restore.seen_by), ("looked through at", write_time(restore.seen_at))]
    return Explanation(
        f"The records of this service were restored from a backup: {what}; {seen}.",
        RULE,
        (*operands, spell_gate(restore.is_seen)),
        HOUSE_RULE,
    )


def spell_count(count: int) -> str:
    """Of events that a restore forgot, to begin a sentence: `2 events of before are`."""
    return f"{count:,} {'event of before is' if count == 1 else 'events of before are'}"


def spell_unread(unread: Sequence[Unread]) -> list[str]:
    """A line for each reason and person, the most messages first, and one for the rest."""
    counts: dict[tuple[str, str], int] = {}
    for kid, person, count in unread:
        counts[kid, person] = counts.get((kid, person), 0) + count
    most = sorted(((count, *why) for why, count in counts.items() if count), reverse=True)
    lines = [f"{count:,} {_name_reason(kid)}, passed over by {quote(person)}" for count, kid, person in most]
    rest = sum(count for count, *_ in most[_LINES_MAX:])
    return [*lines[:_LINES_MAX], *([f"{rest:,} others"] if rest else [])]


def _name_reason(kid: str) -> str:
    if not kid:
        return "that the stream has lost"
    return "of keys that were not known" if kid == ANY_KEY else f"of a key that was not known ({kid})"


def name_event(event_type: str) -> str:
    """`realco.escrow.v1.HoldPlaced` -> `HoldPlaced`."""
    return event_type.rpartition(".")[2]
