"""A service's eye on the streams that it reads and writes: every two seconds each is compared with what it has to be.

While a stream is at fault the service tells no event into it and takes none from it, so that nothing more is lost, and
it is not ready. What a stream loses stays a fault until the process ends. A server that does not answer proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import nats.errors
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

from services.chassis.events import streams
from services.chassis.events.configurations import find_differences, stream_configuration
from services.chassis.events.losses import Losses
from services.chassis.events.stored import Stream
from services.chassis.process.loops import wait_for_any
from services.chassis.process.telemetry import STREAM_FAULTS, log

CHECK_SECONDS = 2.0
# How many servers keep a stream is chosen by who runs the installation; `deploy.provision --check` is told the number.
_CHOSEN = ("num_replicas",)

# What is wrong, by what it is wrong with: the name of a stream, or of a stream and a consumer on it. Of a service,
# shared by all of its watches. Empty: all is well.
Faults = dict[str, list[str]]


async def run_stream_watch(
    js: JetStreamContext, watched: Sequence[Stream], stop: asyncio.Event, faults: Faults
) -> None:
    """Looks until `stop` is set. `faults` says what is wrong, as long as it is."""
    losses = Losses()
    while not stop.is_set():
        for stream in watched:
            try:
                found = await find_stream_faults(js, stream, losses)
            except (nats.errors.Error, JetStreamError, TimeoutError) as unknown:
                log.info("stream_not_checked", stream=stream.name, error=type(unknown).__name__)
                continue
            _note(stream.name, found, faults)
        await wait_for_any(stop, seconds=CHECK_SECONDS)


async def find_stream_faults(js: JetStreamContext, stream: Stream, losses: Losses | None = None) -> list[str]:
    """Why events may get lost in this stream, and which were; nothing where all is well."""
    info = await streams.fetch_stream(js, stream.name)
    if info is None:
        return ["is missing"]
    lost = losses.look(stream, info) if losses is not None else []
    return find_differences(stream_configuration(stream), info["config"], ignored=_CHOSEN) + lost


def _note(stream: str, found: list[str], faults: Faults) -> None:
    before = faults.pop(stream, [])
    if found:
        faults[stream] = found
    STREAM_FAULTS.labels(stream).set(len(found))
    if found and found != before:
        log.error("stream_at_fault", stream=stream, faults=found)
    if before and not found:
        log.warning("stream_mended", stream=stream)
