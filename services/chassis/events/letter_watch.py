"""A service's eye on its dead letters: how many wait, of each of its consumers.

A dead letter waits until somebody has replayed it (replay.py) or dismissed it (dismiss.py). As long as any does, the
log says so again every minute, and what to do. One that is about money is an alarm besides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_transient
from services.chassis.data.letters import count_rows, list_waiting
from services.chassis.events.handling import Subscription
from services.chassis.process.health import Alarms, note_alarm
from services.chassis.process.loops import Failures, wait_for_any
from services.chassis.process.telemetry import DEAD_LETTERS_WAITING, log

# A letter that this process sets aside is noticed within the pause.
LOOK_SECONDS, _PAUSE_SECONDS = 15.0, 1.0
REMIND_SECONDS = 60.0


async def run_letter_watch(
    database: Database,
    subscriptions: Sequence[Subscription],
    stop: asyncio.Event,
    alarms: Alarms,
    look_seconds: float = LOOK_SECONDS,
    remind_seconds: float = REMIND_SECONDS,
) -> None:
    """Looks until `stop` is set. `alarms` says what waits and is about money, as long as it does."""
    watches = [_LetterWatch(database, subscription, alarms, remind_seconds) for subscription in subscriptions]
    failures = Failures(alarms, "the count of dead letters")
    known, looked_at = None, 0.0
    while not stop.is_set():
        database.letters_waiting.clear()
        try:
            counted = await count_rows(database)
            if counted != known or time.monotonic() - looked_at >= remind_seconds:
                for watch in watches:
                    await watch.look()
                known, looked_at = counted, time.monotonic()
            failures.end()
        except Exception as unknown:
            if not is_transient(unknown):
                raise
            failures.add(unknown)
            log.info("dead_letters_not_counted", error=type(unknown).__name__)
        # Many letters that come one after the other are counted together, for each count reads all that wait.
        await wait_for_any(stop, seconds=min(look_seconds, _PAUSE_SECONDS))
        await wait_for_any(stop, database.letters_waiting, seconds=look_seconds)


class _LetterWatch:
    def __init__(self, database: Database, subscription: Subscription, alarms: Alarms, remind_seconds: float) -> None:
        self.consumer = subscription.consumer
        self._database, self._alarms, self._remind_seconds = database, alarms, remind_seconds
        self._is_about_money = subscription.is_about_money
        self._found, self._said_at = "", 0.0

    async def look(self) -> None:
        async with self._database.begin_for_all() as tx:
            waiting = len(await list_waiting(tx, self.consumer))
        DEAD_LETTERS_WAITING.labels(self.consumer, str(self._is_about_money).lower()).set(waiting)
        self._note(f"{waiting} wait" if waiting else "")

    def _note(self, found: str) -> None:
        before, now = self._found, time.monotonic()
        self._found = found
        note_alarm(self._alarms, f"dead letters of {self.consumer}", found if self._is_about_money else "")
        if found and (found != before or now - self._said_at >= self._remind_seconds):
            self._said_at = now
            log.error(
                "dead_letters_wait",
                consumer=self.consumer,
                found=found,
                about_money=self._is_about_money,
                command=f"python -m services.chassis.events.replay {self.consumer} <your name>",
            )
        if before and not found:
            log.warning("dead_letters_seen_to", consumer=self.consumer)
