"""What whoever decides by restored records is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.chassis.values.restore import (
    ANY_KEY,
    KINDS_TOLD_MAX,
    Restore,
    RestoreNotSeen,
    Unread,
    check_seen,
    explain_restore,
    spell_unread,
)

RESTORED_AT = datetime(2026, 11, 30, 14, 10, tzinfo=UTC)
NOT_SEEN = Restore("life-2", RESTORED_AT, is_recent=True)
SEEN = replace(NOT_SEEN, seen_by="ops-1", seen_at=datetime(2026, 11, 30, 15, tzinfo=UTC))


@pytest.mark.parametrize(("restore", "counts"), [(None, True), (NOT_SEEN, False), (SEEN, True)])
def test_a_yes_counts_where_nothing_was_restored_or_somebody_has_looked(restore, counts):
    if counts:
        check_seen(restore)
        return
    with pytest.raises(RestoreNotSeen) as refusal:
        check_seen(restore)
    assert refusal.value.metadata == {"restore_time": "2026-11-30T14:10:00Z"}


def test_what_is_missing_is_told_by_kind_most_first_and_the_rest_in_one_line():
    kinds = [(f"realco.escrow.v1.Kind{number}", 100 - number) for number in range(KINDS_TOLD_MAX + 2)]
    told = explain_restore(SEEN, kinds)
    assert told.operands[:3] == (("restored", "2026-11-30T14:10:00Z"), ("Kind0", "100"), ("Kind1", "99"))
    rest = sum(number for _, number in kinds[KINDS_TOLD_MAX:])
    assert told.operands[KINDS_TOLD_MAX + 1 :] == (
        ("2 other kinds", f"{rest:,}"),
        ("looked through by", "ops-1"),
        ("looked through at", "2026-11-30T15:00:00Z"),
        ("gate", "open"),
    )


@pytest.mark.parametrize(
    ("unread", "told"),
    [
        ([], []),
        ([Unread("escrow:A", "ops-1", 0)], []),  # a decision by which nothing was passed over
        ([Unread("", "ops-1", 3)], ["3 that the stream has lost, passed over by “ops-1”"]),
        (
            [Unread("escrow:A", "ops-1", 1), Unread("escrow:A", "ops-1", 1), Unread(ANY_KEY, "ops-2", 3_000)],
            [
                "3,000 of keys that were not known, passed over by “ops-2”",
                "2 of a key that was not known (escrow:A), passed over by “ops-1”",
            ],
        ),
    ],
)
def test_what_was_passed_over_is_told_by_reason_and_person_most_first(unread, told):
    assert spell_unread(unread) == told


def test_of_many_keys_the_rest_is_one_line_that_says_how_many_messages_they_signed():
    lines = spell_unread([Unread(f"escrow:{number}", "ops-1", 1) for number in range(30)])
    assert (len(lines), lines[-1]) == (21, "10 others")


def test_who_decides_reads_in_the_sentence_that_messages_were_not_looked_at():
    told = explain_restore(replace(SEEN, unread=("2 that the stream has lost",), unread_count=2), [])
    assert "2 messages of before were not looked at (2 that the stream has lost); “ops-1” looked" in told.statement
    assert ("not looked at", "2 that the stream has lost") in told.operands
