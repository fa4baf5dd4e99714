"""The clock of a local instance jumps: what is due by it then is looked for at once, and not when it was to be due."""

from __future__ import annotations

import asyncio

from services.chassis.process.loops import wait_for_any
from services.chassis.values.clock import Clock, FileClock

_LOOK_SECONDS = 1.0


async def watch_clock(clock: Clock, stop: asyncio.Event, work_due: asyncio.Event) -> None:
    """Looks until `stop` is set, where the clock is one that jumps.

    Args:
        work_due: Set when it has.
    """
    if not isinstance(clock, FileClock):
        await stop.wait()
        return
    known = clock.read_offset()
    while not stop.is_set():
        await wait_for_any(stop, seconds=_LOOK_SECONDS)
        if (offset := clock.read_offset()) != known:
            known = offset
            work_due.set()
