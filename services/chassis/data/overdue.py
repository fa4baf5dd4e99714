"""Work that ought to be done long since: counted, an alarm, and each row in the log once a day.

Whoever may write to the database can put work off by a day, as often as it comes back, or alter its row so that nobody
acts upon it. When a row is due, or how often it was tried, says nothing then; since when its work waits does.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from services.chassis.data.database import Database
from services.chassis.data.due import PAGE_ROWS, Due
from services.chassis.data.sql import Row
from services.chassis.process.health import Alarms, note_alarm
from services.chassis.process.jobs import Job
from services.chassis.process.telemetry import WORK_OVERDUE, log
from services.chassis.values.clock import Clock

_INTERVAL_SECONDS = 600.0
_REMIND_SECONDS = 24 * 3600.0


def watch_overdue(database: Database, clock: Clock, alarms: Alarms, work: Sequence[Due]) -> Job:
    """The job of a service whose work that is."""
    return Job("watch_overdue", OverdueWatch(database, clock, alarms, work).look, _INTERVAL_SECONDS)


class OverdueWatch:
    """What this process has said of which row, and when."""

    def __init__(self, database: Database, clock: Clock, alarms: Alarms, work: Sequence[Due]) -> None:
        self._database, self._clock, self._alarms = database, clock, alarms
        self._work = work
        self._said_at: dict[tuple[str, str], float] = {}

    async def look(self) -> int:
        """Says 0: there is no hurry."""
        now, counted = self._clock.now(), defaultdict[str, int](int)
        said_before, self._said_at = self._said_at, {}
        for due in self._work:
            count, rows = await self._find(due, now)
            counted[due.table.name] += count
            for row in rows:
                self._say(due, row, said_before)
        for table, count in counted.items():
            WORK_OVERDUE.labels(table).set(count)
            found = f"{count} wait for longer than they should" if count else ""
            note_alarm(self._alarms, f"overdue {table}", found)
        return 0

    async def _find(self, due: Due, now: datetime) -> tuple[int, Sequence[Row]]:
        """How many there are, and the first of them."""
        before = {"now": now - due.patience}
        async with self._database.begin_for_all() as tx:
            count = int(await tx.scalar(due.count, before) or 0)
            rows = (await tx.execute(due.first_page, before | {"count_max": PAGE_ROWS})).all() if count else []
        return count, rows

    def _say(self, due: Due, row: Row, said_before: dict[tuple[str, str], float]) -> None:
        key, now = (due.table.name, due.name_row(row)), time.monotonic()
        said_at = said_before.get(key)
        if said_at is None or now - said_at >= _REMIND_SECONDS:
            log.error("work_overdue", table=key[0], row=key[1], since=row.due_from.isoformat())
            said_at = now
        self._said_at[key] = said_at
