"""What whoever decides by restored records is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.chassis.values.restore import (
    KINDS_TOLD_MAX,
    Restore,
    RestoreNotSeen,
    check_seen,
    explain_restore,
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
