"""Which entries of a journal are counted already, which come next, and when the journal has to be read instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from realco.escrow.v1.journal_pb2 import JournalEntry, LedgerEntry

from services.distributions.domain.counted_journal import CountedJournal, LastEntry, await_recount


def follow_journal(
    counted: CountedJournal, incarnation: str, entries: Sequence[JournalEntry], now: datetime
) -> tuple[Sequence[JournalEntry], CountedJournal]:
    """What is to be counted of entries that were told, and how far the journal is counted then.

    Args:
        incarnation: In which they were booked.
    """
    if not entries or incarnation in counted.past_incarnations:
        return (), counted
    if not counted.waits and incarnation == counted.incarnation:
        following = _take_following(counted, entries)
        if following is not None:
            return following
    return (), await_recount(counted, LastEntry(incarnation, entries[-1].journal_sequence), now)


def _take_following(
    counted: CountedJournal, entries: Sequence[JournalEntry]
) -> tuple[Sequence[JournalEntry], CountedJournal] | None:
    """None where one was missed. Of an entry whose legs come in several events each is counted once as well."""
    following = []
    for entry in entries:
        if entry.journal_sequence <= counted.journal_sequence:
            continue
        if entry.journal_sequence != counted.journal_sequence + 1:
            return None
        legs = [leg for leg in entry.ledger_entries if leg.leg > counted.legs_counted]
        if not legs:
            continue
        if legs[0].leg != counted.legs_counted + 1:
            return None
        following.append(entry if len(legs) == len(entry.ledger_entries) else _keep_only(entry, legs))
        is_whole = legs[-1].leg == entry.leg_count
        counted = replace(
            counted,
            journal_sequence=entry.journal_sequence if is_whole else counted.journal_sequence,
            legs_counted=0 if is_whole else legs[-1].leg,
        )
    return following, counted


def _keep_only(entry: JournalEntry, legs: Sequence[LedgerEntry]) -> JournalEntry:
    rest = JournalEntry()
    rest.CopyFrom(entry)
    del rest.ledger_entries[:]
    rest.ledger_entries.extend(legs)
    return rest
