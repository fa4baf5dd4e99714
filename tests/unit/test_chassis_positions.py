"""From which positions a consumer may go on: from those that its stream goes on from, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.events.watch import find_position_faults
from services.chassis.values.position import Position


def info(first: int, last: int) -> dict[str, Any]:
    return {"state": {"first_seq": first, "last_seq": last}}


@pytest.mark.parametrize(
    ("handled", "stream", "fault"),
    [
        (0, info(0, 0), ""),  # as a stream is that never had one
        (40, info(1, 40), ""),
        (40, info(1, 90), ""),
        (40, info(41, 90), ""),  # what was handled has had its time
        (40, info(41, 40), ""),  # and nothing came since
        (40, info(42, 90), "begins with 42, and 40 was the last handled"),
        (40, info(91, 90), "begins with 91, and 40 was the last handled"),
        (40, info(1, 39), "was handled up to 40, which is beyond the end of the stream"),
        (40, info(0, 0), "was handled up to 40, which is beyond the end of the stream"),
    ],
)
def test_a_position_that_its_stream_does_not_go_on_from_is_at_fault(
    handled: int, stream: dict[str, Any], fault: str
) -> None:
    assert find_position_faults(Position(handled, "1", "2026"), stream) == ([fault] if fault else [])
