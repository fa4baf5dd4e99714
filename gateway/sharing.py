"""Gateways tell each other over NATS what they counted (docs/adr/0024).

Nothing waits for it, and nothing is kept: while NATS is away, each gateway counts alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from nats.aio.msg import Msg
from prometheus_client import Counter, Gauge

from gateway.counters import Counters
from services.chassis.events import streams
from services.chassis.events.subjects import COUNTED_SUBJECT
from services.chassis.process.health import Alarms
from services.chassis.process.loops import repeat_work

# What is counted meanwhile is told together.
_TOGETHER_SECONDS = 0.25
# Waiting to be added. Of what comes faster than that, some is dropped.
_WAITING_MAX, _WAITING_BYTES_MAX = 100, 1024 * 1024

SHARED = Gauge("realco_rates_shared", "1 while this gateway and the others tell each other what they counted.")
MESSAGES = Counter("realco_rate_messages_total", "Messages between gateways about what they counted.", ["outcome"])


@asynccontextmanager
async def share(url: str, counters: Counters, alarms: Alarms) -> AsyncIterator[None]:
    """Inside, what is counted here and what other gateways count is shared whenever NATS is there.

    Args:
        alarms: Says, as long as it is so, that this has failed for minutes.
    """
    work = partial(_share, url, counters)
    never = asyncio.Event()
    task = asyncio.create_task(repeat_work("share_counts", never, work, alarms))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _share(url: str, counters: Counters) -> None:
    async def hear(message: Msg) -> None:
        try:
            await counters.add(message.data)
        except ValueError:
            MESSAGES.labels("malformed").inc()
        else:
            MESSAGES.labels("heard").inc()

    client = await streams.connect(url, "gateway", timeout_seconds=None, hears_itself=False)
    SHARED.set_function(lambda: client.is_connected)
    try:
        await client.subscribe(
            COUNTED_SUBJECT, cb=hear, pending_msgs_limit=_WAITING_MAX, pending_bytes_limit=_WAITING_BYTES_MAX
        )
        while True:
            message = counters.take_untold()
            # What was counted while it is away is dropped: told later, it would be counted at a wrong time.
            if message is not None and client.is_connected:
                await client.publish(COUNTED_SUBJECT, message)
                MESSAGES.labels("told").inc()
            await asyncio.sleep(_TOGETHER_SECONDS)
            await counters.counted.wait()
    finally:
        await client.close()
