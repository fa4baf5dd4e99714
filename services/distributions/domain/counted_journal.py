"""How far the journal of an escrow account is counted, and what makes it necessary to count it anew.

Escrow tells each entry in the order of its journal. So an entry that is not the next one was missed, and one of another
incarnation (escrow's database was restored from a backup) is of another journal: entries that were counted may never
have been booked there, or are booked in it once more. Sums that were added up say nothing then: the journal is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from services.distributions.domain.refusals import OfferingNotCounted

# Of each restore one is added: more than there ever are.
_PAST_MAX = 100


class LastEntry(NamedTuple):
    """The last entry that an event told, in which incarnation."""

    incarnation: str
    journal_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedJournal:
    """
    Args:
        incarnation: Of the journal that is counted; empty where none is yet.
        journal_sequence: Of the last of its entries of which all legs are counted.
        legs_counted: Of the entry after it: one that several events tell.
        told_incarnation, told_sequence: What was told last, while it waits to be counted anew.
        past_incarnations: That are over: what they tell still is heard again, and counts for nothing.
        waits_since: When it was found that it has to be counted anew; None where it has not.
        version: Of the row: each time it is saved has a higher one.
    """

    escrow_account_id: str
    incarnation: str
    journal_sequence: int = 0
    legs_counted: int = 0
    told_incarnation: str = ""
    told_sequence: int = 0
    past_incarnations: tuple[str, ...] = ()
    waits_since: datetime | None = None
    version: int = 0

    @property
    def waits(self) -> bool:
        return self.waits_since is not None

    @property
    def told(self) -> LastEntry:
        return LastEntry(self.told_incarnation, self.told_sequence)


def await_recount(counted: CountedJournal, told: LastEntry, now: datetime) -> CountedJournal:
    """It waits to be counted anew from here on, or waits on; what was told is not counted."""
    return replace(
        counted,
        told_incarnation=told.incarnation,
        told_sequence=told.journal_sequence,
        waits_since=counted.waits_since or now,
    )


def is_read(counted: CountedJournal, read: LastEntry, told_before: LastEntry) -> bool:
    """Whether all that was told is among what was read.

    Args:
        read: The last entry that was read, and of which incarnation.
        told_before: What had been told before the last of it was asked for.
    """
    if counted.told.incarnation == read.incarnation:
        return counted.told.journal_sequence <= read.journal_sequence
    # Escrow was asked after it had been told, and says that it is of another life: of an earlier one, then.
    return counted.told == told_before


def finish_recount(counted: CountedJournal, read: LastEntry) -> CountedJournal:
    """It is counted up to what was read."""
    past = dict.fromkeys((*counted.past_incarnations, counted.incarnation, counted.told_incarnation))
    over = [each for each in past if each not in ("", read.incarnation)]
    return replace(
        counted,
        incarnation=read.incarnation,
        journal_sequence=read.journal_sequence,
        legs_counted=0,
        told_incarnation="",
        told_sequence=0,
        past_incarnations=tuple(over[-_PAST_MAX:]),
        waits_since=None,
    )


def check_is_counted(counted: CountedJournal | None) -> None:
    """Whether something may be decided by what is counted. Raises: OfferingNotCounted."""
    if counted is not None and counted.waits_since is not None:
        raise OfferingNotCounted(counted.waits_since)
