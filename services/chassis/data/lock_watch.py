"""A table that somebody keeps locked: then nothing is written there, and each request says only that another one runs.

PostgreSQL lets whoever may delete rows lock the whole table. No program of ours does, but for the migrations.
"""

from __future__ import annotations

import time

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.process.health import ALARM_SECONDS, Alarms, note_alarm
from services.chassis.process.jobs import Job
from services.chassis.process.telemetry import log

_INTERVAL_SECONDS = 10.0

# Locks that no insert, update or delete goes beside.
_LOCKED = sa.text(
    "SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
    " WHERE l.locktype = 'relation' AND l.granted"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
    " AND c.relnamespace = CAST('public' AS regnamespace) ORDER BY 1"
)


def watch_locks(database: Database, alarms: Alarms) -> Job:
    """The job every service runs."""
    return Job("watch_locks", LockWatch(database, alarms).look, _INTERVAL_SECONDS)


class LockWatch:
    """Since when this process has found each table locked, whoever it was that locked it."""

    def __init__(self, database: Database, alarms: Alarms, patience_seconds: float = ALARM_SECONDS) -> None:
        self._database, self._alarms, self._patience_seconds = database, alarms, patience_seconds
        self._locked_since: dict[str, float] = {}

    async def look(self) -> int:
        """Says 0: there is no hurry."""
        async with self._database.begin_for_all() as tx:
            locked = list(await tx.scalars(_LOCKED))
        now = time.monotonic()
        self._locked_since = {table: self._locked_since.get(table, now) for table in locked}
        kept = [table for table, since in self._locked_since.items() if now - since >= self._patience_seconds]
        found = f"somebody keeps these tables from every write: {', '.join(kept)}" if kept else ""
        before = note_alarm(self._alarms, "locks", found)
        if found and found != before:
            log.error("tables_locked", tables=kept)
        if before and not found:
            log.warning("tables_unlocked")
        return 0
