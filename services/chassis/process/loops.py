"""Loops that wait for news and outlive failures: the shape of relay, consumers and jobs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from services.chassis.process.health import ALARM_SECONDS, Alarms, note_alarm
from services.chassis.process.telemetry import log

# Who has just looked for work looks again no sooner than this, so that what comes meanwhile is done together: a look, a
# commit and a message cost about as much for many as for one. What comes after a pause waits for nothing.
GATHERING_SECONDS = 0.05
# Work that goes on until it fails is sound once it has done so for longer than any server takes to refuse it.
STEADY_SECONDS = 30.0


async def wait_for_any(*events: asyncio.Event, seconds: float | None) -> None:
    """Returns when one of the events is set, or after `seconds`, if that is given."""
    if any(event.is_set() for event in events):
        return
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()


def backoff_seconds(failures: int, *, first: float = 0.1, most: float = 5.0) -> float:
    """How long to wait after so many failures in a row: doubling up to `most`, with jitter so no two march in step."""
    longest = min(most, first * 2.0 ** min(failures - 1, 20))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  # no secret


class Failures:
    """Those of one piece of work, in a row: an alarm once there has been nothing else for ALARM_SECONDS."""

    def __init__(self, alarms: Alarms, about: str) -> None:
        self._alarms, self._about = alarms, about
        self.count, self._sound_at = 0, time.monotonic()

    def add(self, error: Exception) -> None:
        self.count += 1
        if time.monotonic() - self._sound_at >= ALARM_SECONDS:
            note_alarm(self._alarms, self._about, f"failed {self.count} times in a row: {type(error).__name__}")

    def end(self) -> None:
        """The work is sound."""
        self.count, self._sound_at = 0, time.monotonic()
        note_alarm(self._alarms, self._about, "")


async def repeat_work(name: str, stop: asyncio.Event, work: Callable[[], Awaitable[None]], alarms: Alarms) -> None:
    """Runs `work` until `stop` is set, again after every failure: servers that we depend on do restart.

    Args:
        alarms: Names it as long as it has failed for minutes.
    """
    failures = Failures(alarms, f"work {name}")
    while not stop.is_set():
        steady = asyncio.get_running_loop().call_later(STEADY_SECONDS, failures.end)
        try:
            try:
                await work()
            finally:
                steady.cancel()
            failures.end()
        except Exception as error:  # whatever it is, stopping would be worse than trying again
            failures.add(error)
            log.warning("work_failed", work=name, failures=failures.count, error=type(error).__name__, exc_info=error)
            await wait_for_any(stop, seconds=backoff_seconds(failures.count))
