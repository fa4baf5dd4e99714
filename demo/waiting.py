"""Polling a condition with a limit, and saying what was waited for when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_SECONDS = 90.0
_POLL_SECONDS_MIN, _POLL_SECONDS_MAX = 0.02, 0.2


class WaitedInVain(Exception):
    """A condition did not come true in time."""


def wait_for(
    what: str,
    read: Callable[[], T],
    wanted: Callable[[T], bool],
    describe: Callable[[T], object] = lambda read: read,
    seconds: float = LIMIT_SECONDS,
) -> T:
    """What `read` gives once it is as wanted. Raises: WaitedInVain with what it was last."""
    deadline = time.monotonic() + seconds
    pause = _POLL_SECONDS_MIN
    while not wanted(last := read()):
        if time.monotonic() > deadline:
            raise WaitedInVain(f"Waited {seconds:g} s for {what}, in vain; the last seen: {describe(last)}")
        time.sleep(pause)
        pause = min(pause * 1.5, _POLL_SECONDS_MAX)
    return last
