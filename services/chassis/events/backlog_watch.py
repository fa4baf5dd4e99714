"""A service's eye on what it has not handled yet: for how long the oldest message has waited, of each of its consumers.

Whatever keeps a consumer from going on (a row that somebody keeps locked, a flood of repeats, a server away) shows in
this alone. A consumer that falls behind for minutes is an alarm; the service stays ready, as with every alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nats.js import JetStreamContext

from services.chassis.data.database import Database
from services.chassis.data.positions import find_position
from services.chassis.data.seals import NotSealed
from services.chassis.events import streams
from services.chassis.events.consumer import Subscription
from services.chassis.process.health import ALARM_SECONDS, Alarms, note_alarm
from services.chassis.process.loops import repeat_work, wait_for_any
from services.chassis.process.telemetry import CONSUMER_OLDEST_SECONDS, log

LOOK_SECONDS = 5.0
_ENDS_MAX = 200


async def run_backlog_watch(
    database: Database,
    js: JetStreamContext,
    subscriptions: Sequence[Subscription],
    stop: asyncio.Event,
    alarms: Alarms,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Looks until `stop` is set. `alarms` says what has waited for too long, and that nobody can tell."""
    watches = [
        _BacklogWatch(database, js, subscription.durable, stream, alarms)
        for subscription in subscriptions
        for stream in subscription.subjects_by_stream()
    ]

    async def look() -> None:
        while not stop.is_set():
            for watch in watches:
                await watch.look()
            await wait_for_any(stop, seconds=look_seconds)

    await repeat_work("backlog", stop, look, alarms)


class Backlog:
    """What one consumer has not handled. A stream says when its last message came, and of no other: so it is kept, of
    each look, where the stream ended, and when that came.
    """

    def __init__(self) -> None:
        self._ends: list[tuple[int, datetime]] = []

    def measure_seconds(self, info: Mapping[str, Any], handled: int) -> float:
        """For how long the oldest message that is not handled has waited, at least.

        Args:
            info: What the server says of the stream, word for word.
            handled: The last message that was handled.
        """
        last: int = info["state"]["last_seq"]
        self._ends = [end for end in self._ends if handled < end[0] <= last]
        if last > handled and (not self._ends or self._ends[-1][0] < last):
            self._ends.append((last, datetime.fromisoformat(info["state"]["last_ts"])))
        if len(self._ends) > _ENDS_MAX:
            self._ends = self._ends[::2]
        if not self._ends:
            return 0.0
        return max(0.0, (datetime.fromisoformat(info["ts"]) - self._ends[0][1]).total_seconds())


class _BacklogWatch:
    def __init__(self, database: Database, js: JetStreamContext, durable: str, stream: str, alarms: Alarms) -> None:
        self._database, self._js, self._alarms = database, js, alarms
        self._durable, self._stream = durable, stream
        self._backlog = Backlog()

    async def look(self) -> None:
        try:
            async with self._database.begin_for_all() as tx:
                handled = await find_position(tx, self._durable, self._stream)
        except NotSealed:  # the consumer is at fault then, which is told (watch.py)
            return
        info = await streams.fetch_stream(self._js, self._stream)
        if handled is not None and info is not None and handled.lives.stream_created == info["created"]:
            self._note(self._backlog.measure_seconds(info, handled.stream_sequence))

    def _note(self, seconds: float) -> None:
        CONSUMER_OLDEST_SECONDS.labels(self._durable, self._stream).set(seconds)
        found = f"the oldest has waited for {seconds:.0f} seconds" if seconds >= ALARM_SECONDS else ""
        before = note_alarm(self._alarms, f"events of {self._stream} for {self._durable}", found)
        if found and not before:
            log.error("events_wait", consumer=self._durable, stream=self._stream, found=found)
        if before and not found:
            log.warning("events_handled_again", consumer=self._durable, stream=self._stream)
