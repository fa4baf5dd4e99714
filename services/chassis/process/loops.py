"""Loops that wait for news and outlive failures: the shape of relay, consumers and jobs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from services.chassis.process.telemetry import log


async def wait_for_any(*events: asyncio.Event, seconds: float) -> None:
    """Returns when one of the events is set, or after `seconds`."""
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


async def repeat_work(name: str, stop: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` until `stop` is set, again after every failure: servers that we depend on do restart."""
    failures = 0
    while not stop.is_set():
        try:
            await work()
            failures = 0
        except Exception as error:  # whatever it is, stopping would be worse than trying again
            failures += 1
            log.warning("work_failed", work=name, failures=failures, error=type(error).__name__, exc_info=error)
            await wait_for_any(stop, seconds=backoff_seconds(failures))
