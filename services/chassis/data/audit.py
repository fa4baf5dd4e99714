"""Looks at every sealed row, a few at a time, and when all are done after a while from the beginning again.

What is acted upon is asked for its seal anyway. This finds what nothing is done with any more because somebody altered
it: a status or a time that keeps it from being taken up. It is in the log and counted, as each row that is not sealed.

Each row that was refused, here or by whoever wanted to act upon it, is looked at again every time: as long as it is
not put right, it is an alarm.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_unreadable
from services.chassis.data.readable import find_rows
from services.chassis.data.seals import (
    NotSealed,
    is_row_sealed,
    keep_sealed,
    key_of,
    list_digested,
    list_sealed_tables,
    refuse_row,
)
from services.chassis.data.transaction import Tx
from services.chassis.process.health import Alarms, note_alarm
from services.chassis.process.jobs import Job
from services.chassis.process.telemetry import UNSEALED_ROWS

# As long as there is more to look at, or a row was refused; and between two rounds.
_INTERVAL_SECONDS, _ROUND_SECONDS = 15.0, 120.0
# Of a table at a time: nearly three million a day. Of one whose texts may be long so few that nobody else waits for it.
_ROWS_MAX, _ROWS_WITH_TEXTS_MAX = 500, 25


def audit_seals(database: Database, metadata: sa.MetaData, alarms: Alarms) -> Job:
    """The job of a service that has sealed tables."""
    return Job("audit_seals", Audit(database, list_sealed_tables(metadata), alarms).run, _INTERVAL_SECONDS)


class Audit:
    """How far this process has looked, by table."""

    def __init__(self, database: Database, tables: Sequence[sa.Table], alarms: Alarms) -> None:
        self._database = database
        self._tables = tables
        self._alarms = alarms
        self._last: dict[str, Sequence[Any]] = {}
        self._next_at = 0.0

    async def run(self) -> int:
        """`look`, when it is time. Says 0: there is no hurry."""
        if self._last or any(self._database.seals.refused.values()) or time.monotonic() >= self._next_at:
            await self.look()
            self._next_at = time.monotonic() + _ROUND_SECONDS
        return 0

    async def look(self) -> None:
        """Looks at the next rows of each table."""
        async with self._database.begin_for_all() as tx:
            for table in self._tables:
                try:
                    await self._look_into(tx, table)
                    await self._look_again(tx, table)
                except Exception as error:
                    if not is_unreadable(error):
                        raise
                    # Not even a key: the other tables have their turn.
                    note_alarm(self._alarms, f"rows of {table.name}", "cannot be read")

    async def _look_into(self, tx: Tx, table: sa.Table) -> None:
        key = list(table.primary_key.columns)
        rows_max = _ROWS_WITH_TEXTS_MAX if list_digested(table) else _ROWS_MAX
        query = sa.select(table).order_by(*key).limit(rows_max)
        if last := self._last.pop(table.name, None):
            query = query.where(sa.tuple_(*key) > sa.tuple_(*last))
        found = await find_rows(tx, table, query)
        for each in found.unreadable:
            with suppress(NotSealed):
                refuse_row(self._database.seals, table, each)
        keep_sealed(tx, table, found.rows)
        if len(found.keys) == rows_max:
            self._last[table.name] = found.keys[-1]

    async def _look_again(self, tx: Tx, table: sa.Table) -> None:
        """At the rows that were refused: those that were put right, or are gone, are no alarm any more."""
        refused = self._database.seals.refused.setdefault(table.name, set())
        if keys := list(refused):
            query = sa.select(table).where(sa.tuple_(*table.primary_key.columns).in_(keys))
            found = await find_rows(tx, table, query)
            wrong = {key_of(table, row) for row in found.rows if not is_row_sealed(tx, table, row)}
            refused -= {*keys} - wrong - {*found.unreadable}
        UNSEALED_ROWS.labels(table.name).set(len(refused))
        note_alarm(self._alarms, f"rows of {table.name}", f"{len(refused)} not sealed" if refused else "")
