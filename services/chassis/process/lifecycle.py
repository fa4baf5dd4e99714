"""How a process ends: told by a signal, it stops taking work, finishes what is in hand, and is gone in time."""

from __future__ import annotations

import asyncio
import os
import signal

from services.chassis.process.telemetry import write_lines

DRAIN_SECONDS = 10.0


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM or SIGINT sets `stop`. What has not ended by itself soon after DRAIN_SECONDS is ended with status 1.

    To be called in the running loop.
    """
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if not stop.is_set():
            stop.set()
            # A drain that hangs must not keep the machine waiting.
            loop.call_later(DRAIN_SECONDS + 1, _end)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


def _end() -> None:
    write_lines()
    os._exit(1)


async def wait_for_callers(seconds: float) -> None:
    """Waits until those who look at our readiness have stopped sending: at most half of the time there is."""
    await asyncio.sleep(min(seconds, DRAIN_SECONDS / 2))
