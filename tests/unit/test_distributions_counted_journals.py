"""Which entries of a journal are counted, as escrow tells them, and when the journal is read instead."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from realco.escrow.v1.journal_pb2 import JournalEntry, LedgerEntry

from services.distributions.commands.raises.journals import follow_journal
from services.distributions.domain.counted_journal import (
    CountedJournal,
    LastEntry,
    await_recount,
    check_is_counted,
    finish_recount,
    is_read,
)
from services.distributions.domain.refusals import OfferingNotCounted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNTED = CountedJournal(
    escrow_account_id="esc_1", incarnation="second", journal_sequence=4, past_incarnations=("1st",)
)


def entry(sequence: int, *legs: int, leg_count: int = 2) -> JournalEntry:
    numbered = [LedgerEntry(leg=leg) for leg in legs or range(1, leg_count + 1)]
    return JournalEntry(journal_sequence=sequence, leg_count=leg_count, ledger_entries=numbered)


@pytest.mark.parametrize(
    ("sequences", "counted", "up_to"),
    [
        ([5], [5], 5),
        ([5, 6], [5, 6], 6),
        ([3, 4], [], 4),  # told once more
        ([4, 5], [5], 5),
        ([6], None, 4),  # one was missed
        ([5, 7], None, 4),
    ],
)
def test_an_entry_is_counted_once_and_after_the_one_before_it(
    sequences: list[int], counted: list[int] | None, up_to: int
) -> None:
    entries, after = follow_journal(COUNTED, "second", [entry(each) for each in sequences], NOW)
    assert [each.journal_sequence for each in entries] == (counted or [])
    assert (after.journal_sequence, after.waits) == (up_to, counted is None)


def test_each_leg_of_an_entry_that_several_events_tell_is_counted_once() -> None:
    counted, legs = COUNTED, []
    for told in (entry(5, 1, 2, leg_count=4), entry(5, 1, 2, leg_count=4), entry(5, 2, 3, leg_count=4)):
        entries, counted = follow_journal(counted, "second", [told], NOW)
        legs += [leg.leg for each in entries for leg in each.ledger_entries]
    assert (counted.journal_sequence, counted.legs_counted) == (4, 3)
    entries, counted = follow_journal(counted, "second", [entry(5, 4, leg_count=4), entry(6)], NOW)
    legs += [leg.leg for leg in entries[0].ledger_entries]
    assert (legs, counted.journal_sequence, counted.legs_counted) == ([1, 2, 3, 4], 6, 0)
    assert follow_journal(COUNTED, "second", [entry(5, 2, leg_count=4)], NOW)[1].waits  # its first part was missed


@pytest.mark.parametrize(("incarnation", "waits"), [("third", True), ("1st", False)])
def test_another_life_of_escrow_s_database_has_the_journal_read_and_one_that_is_over_says_nothing(
    incarnation: str, waits: bool
) -> None:
    entries, after = follow_journal(COUNTED, incarnation, [entry(5)], NOW)
    assert (entries, after.waits, after.journal_sequence) == ((), waits, 4)


def test_what_is_told_while_it_waits_counts_for_nothing_and_is_remembered() -> None:
    waiting = await_recount(COUNTED, LastEntry("third", 2), NOW)
    entries, after = follow_journal(waiting, "third", [entry(3)], NOW.replace(day=2))
    assert (entries, after.told, after.waits_since) == ((), LastEntry("third", 3), NOW)


@pytest.mark.parametrize(
    ("told", "read", "told_before", "verdict"),
    [
        (LastEntry("third", 3), LastEntry("third", 3), LastEntry("third", 3), True),
        (LastEntry("third", 3), LastEntry("third", 9), LastEntry("third", 2), True),
        (LastEntry("third", 3), LastEntry("third", 2), LastEntry("third", 2), False),  # told meanwhile
        (
            LastEntry("second", 9),
            LastEntry("third", 2),
            LastEntry("second", 9),
            True,
        ),  # told before it was read, of a life that is over
        (
            LastEntry("fourth", 1),
            LastEntry("third", 2),
            LastEntry("third", 1),
            False,
        ),  # perhaps restored while it was read
    ],
)
def test_a_journal_is_read_to_its_end_when_all_that_was_told_is_in_it(
    told: LastEntry, read: LastEntry, told_before: LastEntry, verdict: bool
) -> None:
    assert is_read(await_recount(COUNTED, told, NOW), read, told_before) is verdict


def test_a_journal_that_was_counted_anew_remembers_which_lives_are_over() -> None:
    after = finish_recount(await_recount(COUNTED, LastEntry("second", 5), NOW), LastEntry("third", 2))
    assert after == replace(
        COUNTED, incarnation="third", journal_sequence=2, past_incarnations=("1st", "second"), waits_since=None
    )


def test_nothing_is_decided_by_what_waits_to_be_counted() -> None:
    check_is_counted(None)
    check_is_counted(COUNTED)
    with pytest.raises(OfferingNotCounted) as refusal:
        check_is_counted(await_recount(COUNTED, LastEntry("third", 1), NOW))
    assert refusal.value.kind.transient
    assert refusal.value.metadata == {"wait_time": "2026-01-01T00:00:00Z"}
