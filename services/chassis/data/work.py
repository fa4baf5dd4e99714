"""Which jobs have work: one statement asks it for all of them, so a job without any costs nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.process.jobs import Job
from services.chassis.values.clock import Clock


class WorkFinder:
    """Asks for the jobs of one process that wait for work.

    Args:
        clock: What is due by business time is due by it.
    """

    def __init__(self, database: Database, clock: Clock, jobs: Iterable[Job]) -> None:
        self._database, self._clock = database, clock
        # Built once and run often: to build a statement costs more than to run it.
        self._statement = sa.select(*(job.work.label(job.name) for job in jobs if job.work is not None))

    async def find(self) -> Collection[str]:
        """The names of those that have some, in any organization."""
        async with self._database.begin_for_all() as tx:
            row = (await tx.execute(self._statement, {"now": self._clock.now()})).one()
        return [name for name, is_there in row._mapping.items() if is_there]
