"""Forgets what has served its time, a bounded batch a run.

Published events and handled events are kept as retention.py says; answers 30 days, since providers repeat for days
(reliability rules c12, c16). The rows of all organizations go in one transaction: docs/adr/0014.
"""

from __future__ import annotations

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.data.retention import HANDLED_EVENTS_DAYS, OUTBOX_DAYS
from services.chassis.data.tables import metadata
from services.chassis.process.jobs import Job

HANDLED_REQUESTS_DAYS = 30
# When a row has served its time: so many days after the time in that column. The database refuses to forget earlier.
# An event that is not published has no such time, and stays.
FORGOTTEN_AFTER_DAYS = {
    "outbox": ("published_at", OUTBOX_DAYS),
    "handled_requests": ("created_at", HANDLED_REQUESTS_DAYS),
    "handled_events": ("created_at", HANDLED_EVENTS_DAYS),
}
_BATCH_MAX = 5_000


def housekeeping(database: Database) -> Job:
    """The job every service runs."""

    async def run() -> int:
        return await forget_old_rows(database)

    return Job("housekeeping", run, interval_seconds=3600)


async def forget_old_rows(database: Database) -> int:
    """Deletes at most a batch of each kind; returns how many rows."""
    async with database.begin_for_all() as tx:
        forgotten = 0
        for name, (column, days) in FORGOTTEN_AFTER_DAYS.items():
            table = metadata.tables[name]
            keys = list(table.primary_key.columns)
            old = (
                sa.select(*keys)
                .where(table.c[column] < sa.func.now() - sa.text(f"interval '{days} days'"))
                .limit(_BATCH_MAX)
            )
            gone = sa.delete(table).where(sa.tuple_(*keys).in_(old))
            forgotten += (await tx.execute(gone)).rowcount
        return forgotten
