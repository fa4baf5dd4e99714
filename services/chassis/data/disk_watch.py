"""What fills the disk of PostgreSQL without any table of ours: it stops for all services once no room is left.

Whoever has a login of a service may sort and keep more than memory holds, send messages that nobody takes, and change
the defaults of its role as often as it likes, without the proof of a session (session_proof.py). None of these can be
taken away. Our statements need no temporary file, and no program of ours sends such messages.
"""

from __future__ import annotations

import time

from services.chassis.data.database import Database
from services.chassis.process.health import ALARM_SECONDS, Alarms, note_alarm
from services.chassis.process.telemetry import log

_BYTES_MAX = 64 * 1024**2
# Half of the messages that PostgreSQL holds at most: the bound itself is told where it is higher than it should be.
_QUEUE_FILLED = 0.5
# Temporary files are of the sessions in this database, each named by the number of its process; the messages and the
# catalogue of defaults are of the whole cluster.
_FILLED = (
    "SELECT concat('temporary files of ', a.usename) AS filled, CAST(sum(t.size) AS bigint) AS bytes"
    " FROM pg_catalog.pg_ls_tmpdir() t JOIN pg_catalog.pg_stat_activity a"
    " ON a.datname = current_database() AND CAST(a.pid AS text) = substring(t.name FROM '^pgsql_tmp([0-9]+)[.]')"
    " GROUP BY a.usename HAVING sum(t.size) > $1"
    " UNION ALL"
    " SELECT concat('the catalogue ', relname), pg_catalog.pg_total_relation_size(oid) FROM pg_catalog.pg_class"
    " WHERE relnamespace = CAST('pg_catalog' AS regnamespace) AND relkind = 'r'"
    " AND pg_catalog.pg_total_relation_size(oid) > $1"
    " UNION ALL"
    " SELECT CASE WHEN used >= $2 THEN 'messages (NOTIFY) that somebody does not take'"
    " ELSE 'what max_notify_queue_pages lets messages (NOTIFY) take' END, CASE WHEN used >= $2 THEN"
    " CAST(used * bytes AS bigint) ELSE bytes END FROM (SELECT pg_catalog.pg_notification_queue_usage() AS used,"
    " CAST(current_setting('max_notify_queue_pages') AS bigint) * CAST(current_setting('block_size') AS bigint)"
    " AS bytes) AS queue WHERE used >= $2 OR bytes > $1"
    " ORDER BY 1"
)


class DiskWatch:
    """Since when this process has found each of them so large."""

    def __init__(
        self,
        database: Database,
        alarms: Alarms,
        patience_seconds: float = ALARM_SECONDS,
        bytes_max: int = _BYTES_MAX,
    ) -> None:
        self._database, self._alarms = database, alarms
        self._patience_seconds, self._bytes_max = patience_seconds, bytes_max
        self._large_since: dict[str, float] = {}
        self._told: set[str] = set()

    async def look(self) -> None:
        rows = await self._database.send_for_all(_FILLED, self._bytes_max, _QUEUE_FILLED)
        now = time.monotonic()
        self._large_since = {row["filled"]: self._large_since.get(row["filled"], now) for row in rows}
        large = {
            row["filled"]: f"{row['filled']} ({row['bytes'] / 1e6:.1f} MB)"
            for row in rows
            if now - self._large_since[row["filled"]] >= self._patience_seconds
        }
        found = f"somebody fills PostgreSQL's disk: {', '.join(large.values())}" if large else ""
        before = note_alarm(self._alarms, "disk", found)
        if large.keys() - self._told:
            log.error("disk_filled", filled=list(large.values()))
        if before and not found:
            log.warning("disk_freed")
        self._told = set(large)
