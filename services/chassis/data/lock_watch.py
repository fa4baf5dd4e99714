"""A lock that somebody keeps, or takes again and again: then nothing goes on behind it, and each request says only that
another one runs. And a transaction that stays open: PostgreSQL keeps for it whatever is deleted meanwhile, or changed,
and each read has more to pass over.

PostgreSQL lets whoever may delete rows lock the whole table, whoever may change one lock that row, and anybody lock any
name (data/locks.py). No program of ours keeps one for longer than a statement may take, but for the migrations.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_out_of_room
from services.chassis.data.disk_watch import DiskWatch
from services.chassis.process.health import ALARM_SECONDS, Alarms, note_alarm
from services.chassis.process.jobs import Job
from services.chassis.process.telemetry import log

_INTERVAL_SECONDS = 20.0

# Each transaction has a lock of its own number, which everybody sees: so it is known by that how long it stays open.
_OPEN, _OPEN_SECONDS_MAX = "open, transaction ", 3600.0
# Tables beside whose lock goes no insert, update or delete; names; and transactions that keep rows, which are theirs
# until they end.
_LOCKED = (
    "SELECT DISTINCT CASE l.locktype WHEN 'relation' THEN 'the table ' || c.relname"  # noqa: S608  # all of it stands here
    " WHEN 'advisory' THEN concat('the name ', l.classid, ' ', l.objid)"
    " WHEN 'transactionid' THEN 'rows, in transaction ' || l.transactionid"
    f" WHEN 'virtualxid' THEN '{_OPEN}' || l.virtualxid"
    " END AS kept FROM pg_catalog.pg_locks l"
    " LEFT JOIN pg_catalog.pg_class c ON l.locktype = 'relation' AND c.oid = l.relation WHERE l.granted"
    " AND l.pid <> pg_backend_pid() AND l.pid IN"
    " (SELECT pid FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND usename IS NOT NULL) AND ("
    " l.locktype IN ('advisory', 'virtualxid') OR l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock'"
    " OR c.relnamespace = CAST('public' AS regnamespace)"
    " AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) ORDER BY 1"
    " LIMIT 1000"
)
_NAMED_MAX = 20
_USED_UP = "PostgreSQL has no room for any more locks: somebody keeps thousands"
_LATELY_SECONDS, _IN_VAIN_MIN = 600.0, 3


def watch_locks(database: Database, alarms: Alarms) -> Job:
    """The job every service runs; it looks at the disk, too, which whoever has a login takes in the same unseen way."""
    locks, disk = LockWatch(database, alarms), DiskWatch(database, alarms)

    async def look() -> int:
        await locks.look()
        await disk.look()
        return 0

    return Job("watch_locks", look, _INTERVAL_SECONDS)


class LockWatch:
    """Since when this process has found each lock kept, whoever it was that took it."""

    def __init__(
        self,
        database: Database,
        alarms: Alarms,
        patience_seconds: float = ALARM_SECONDS,
        open_seconds_max: float = _OPEN_SECONDS_MAX,
    ) -> None:
        self._database, self._alarms = database, alarms
        self._patience_seconds, self._open_seconds_max = patience_seconds, open_seconds_max
        self._kept_since: dict[str, float] = {}

    async def look(self) -> int:
        """Says 0: there is no hurry."""
        try:
            locked = [row["kept"] for row in await self._database.send_for_all(_LOCKED)]
        except Exception as error:
            if not is_out_of_room(error):
                raise
            self._tell(_USED_UP, ["PostgreSQL has no room for any more"])
            return 0
        now = time.monotonic()
        self._kept_since = {lock: self._kept_since.get(lock, now) for lock in locked}
        kept = [lock for lock, since in self._kept_since.items() if now - since >= self._bear(lock)][:_NAMED_MAX]
        if not kept and self._has_waited_in_vain(now):
            kept = ["what this service has waited for in vain again and again"]
        self._tell(f"somebody keeps locked or open: {', '.join(kept)}" if kept else "", kept)
        return 0

    def _bear(self, lock: str) -> float:
        """For how long, in seconds, nobody is told of a lock."""
        return self._open_seconds_max if lock.startswith(_OPEN) else self._patience_seconds

    def _tell(self, found: str, locks: Sequence[str]) -> None:
        before = note_alarm(self._alarms, "locks", found)
        if found and found != before:
            log.error("locks_kept", locks=locks)
        if before and not found:
            log.warning("locks_released")

    def _has_waited_in_vain(self, now: float) -> bool:
        """Whoever locks the same anew each minute keeps no lock for long, and what needs it waits all the same."""
        lately = [at for at in self._database.waited_in_vain if now - at < _LATELY_SECONDS]
        return len(lately) >= _IN_VAIN_MIN and lately[-1] - lately[0] >= self._patience_seconds
