"""Waiting for a condition by asking again and again, up to a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from demo.harness import HarnessError

T = TypeVar("T")

LIMIT_SECONDS = 90.0
_POLL_SECONDS_MIN, _POLL_SECONDS_MAX = 0.02, 0.2


class ConditionNotMet(HarnessError):
    """A condition did not come true in time."""


def wait_for(
    what: str,
    read: Callable[[], T],
    wanted: Callable[[T], bool],
    describe: Callable[[T], object] = lambda read: read,
    seconds: float = LIMIT_SECONDS,
) -> T:
    """What `read` gives once it is as wanted. Raises: ConditionNotMet with what it was last."""
    deadline = time.monotonic() + seconds
    pause = _POLL_SECONDS_MIN
    while not wanted(last := read()):
        if time.monotonic() > deadline:
            raise ConditionNotMet(f"Waited {seconds:g} s for {what} without result; last seen: {describe(last)}")
        time.sleep(pause)
        pause = min(pause * 1.5, _POLL_SECONDS_MAX)
    return last
