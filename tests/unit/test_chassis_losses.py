"""A message that is gone before its time is missed, and one whose time is over is not."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.events.losses import Losses
from services.chassis.events.stored import Stream, stream_of_area

EVENTS = stream_of_area("escrow")


def info(
    first: int, last: int, *, removed: int = 0, first_ts: str = "2026-03-01", created: str = "2026"
) -> dict[str, Any]:
    state = {"first_seq": first, "last_seq": last, "first_ts": f"{first_ts}T00:00:00.123456789Z"}
    return {
        "created": created,
        "ts": "2026-03-02T00:00:00Z",
        "state": state | ({"num_deleted": removed} if removed else {}),
    }


OLD = "2025-03-01"


@pytest.mark.parametrize(("stream", "before", "after", "lost"), [
    (EVENTS, info(1, 5), info(1, 5), ""),
    (EVENTS, info(1, 5), info(1, 9), ""),
    (EVENTS, info(0, 0), info(1, 2), ""),  # as a stream is that never had one
    (EVENTS, info(1, 5, removed=2), info(1, 6, removed=2), ""),  # lost before this process looked
    (EVENTS, info(1, 5), info(1, 5, removed=1), "lost 1 from among its messages"),
    (EVENTS, info(1, 5), info(3, 5), "begins with 3, and 1 had time left"),
    (EVENTS, info(1, 5), info(6, 5), "begins with 6, and 1 had time left"),
    (EVENTS, info(1, 5, first_ts=OLD), info(3, 5), ""),  # a year is over
    (EVENTS, info(1, 5, first_ts="2025-03-03"), info(3, 5), "begins with 3, and 1 had time left"),
    (EVENTS, info(1, 5), info(1, 4), "ends with 4, and ended with 5"),
    (EVENTS, info(1, 5), info(1, 5, created="2027"), "was made anew at 2027, without what it had"),
])  # fmt: skip
def test_what_is_gone_before_its_time_is_missed(
    stream: Stream, before: dict[str, Any], after: dict[str, Any], lost: str
) -> None:
    losses = Losses()
    assert losses.look(stream, before) == []
    assert losses.look(stream, after) == ([lost] if lost else [])
    assert losses.look(stream, after) == ([lost] if lost else [])  # and stays missed, once
