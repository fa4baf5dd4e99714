"""For how long a consumer's oldest message has waited is told from where its stream ended, and when."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.events.backlog import Backlog


def info(last: int, came: int, now: int) -> dict[str, Any]:
    """What a server says of a stream: the last message, in which second it came, and in which it is asked."""
    stamp = "2026-11-22T12:{:02}:{:02}.123456789Z"
    return {
        "state": {"last_seq": last, "last_ts": stamp.format(*divmod(came, 60))},
        "ts": stamp.format(*divmod(now, 60)),
    }


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        ([(info(9, 100, 200), 9)], 0),  # all is handled
        ([(info(9, 100, 200), 8)], 100),  # from before this process looked
        ([(info(9, 100, 101), 8), (info(20, 190, 200), 8)], 100),  # what came later is younger
        ([(info(9, 100, 101), 8), (info(20, 190, 200), 9)], 10),
        ([(info(9, 100, 101), 8), (info(20, 190, 200), 20)], 0),
        ([(info(9, 100, 101), 8), (info(3, 190, 200), 2)], 10),  # the stream was made anew
        ([(info(5 + at, at, at), 1) for at in range(1000)], 999),  # a flood that nobody handles
        ([(info(5 + at, at, at), at - 95) for at in range(100, 1000)], 100),  # and one that is handled late
    ],
)
def test_the_oldest_message_has_waited_since_the_stream_ended_with_it(
    looks: list[tuple[dict[str, Any], int]], seconds: int
) -> None:
    backlog = Backlog()
    measured = [backlog.measure_seconds(said, handled) for said, handled in looks]
    assert measured[-1] == pytest.approx(seconds, abs=1)
