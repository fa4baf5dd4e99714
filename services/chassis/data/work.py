"""Which jobs have work: one statement asks it for all of them, so a job without any costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.data.reads import compile_for_all
from services.chassis.process.jobs import Found, Job
from services.chassis.values.clock import Clock


class WorkFinder:
    """Asks for the jobs of one process that wait for work.

    Args:
        clock: What is due by business time is due by it.
    """

    def __init__(self, database: Database, clock: Clock, jobs: Iterable[Job]) -> None:
        self._database, self._clock = database, clock
        # Built once and run often: to build a statement costs more than to run it.
        asked: Any = sa.select(*(job.work.label(job.name) for job in jobs if job.work is not None))
        self._text, self._names = compile_for_all(asked)

    async def find(self) -> Found:
        """Those that have some, in any organization."""
        [row] = await self._database.send_for_all(self._text, *(self._clock.now() for _ in self._names))
        seconds = {name: value for name, value in row.items() if value is not None}
        later = [value for value in seconds.values() if value > 0]
        return Found([name for name, value in seconds.items() if value <= 0], min(later, default=None))
