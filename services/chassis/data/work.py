"""Which jobs have work: one statement asks it for all of them, so a job without any costs nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.data.reads import compile_for_all
from services.chassis.process.health import ALARM_SECONDS, Alarms, note_alarm
from services.chassis.process.jobs import Found, Job
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock


class WorkFinder:
    """Asks for the jobs of one process that wait for work.

    Args:
        clock: What is due by business time is due by it.
        alarms: Names the jobs whose work nobody takes.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        jobs: Iterable[Job],
        alarms: Alarms,
        patience_seconds: float = ALARM_SECONDS,
    ) -> None:
        self._database, self._clock = database, clock
        # Built once and run often: to build a statement costs more than to run it.
        asked: Any = sa.select(*(job.work.label(job.name) for job in jobs if job.work is not None))
        self._text, self._names = compile_for_all(asked)
        self._untaken = _UntakenWork(alarms, patience_seconds)

    async def find(self) -> Found:
        """Those that have some, in any organization."""
        [row] = await self._database.send_for_all(self._text, *(self._clock.now() for _ in self._names))
        self._untaken.note(row)
        seconds = {name: value for name, value in row.items() if value is not None}
        later = [value for value in seconds.values() if value > 0]
        return Found([name for name, value in seconds.items() if value <= 0], min(later, default=None))


class _UntakenWork:
    """Work that has been due for minutes: jobs pass over rows that somebody keeps locked, and so nobody waits for them.

    Whoever takes turns with another in locking them keeps no lock for long (lock_watch.py).
    """

    def __init__(self, alarms: Alarms, patience_seconds: float) -> None:
        self._alarms, self._patience_seconds = alarms, patience_seconds
        self._since: dict[str, float] = {}

    def note(self, seconds: Mapping[str, float | None]) -> None:
        """
        Args:
            seconds: In how many the first work of each job is due. Below zero: so long ago.
        """
        now = time.monotonic()
        for job, value in seconds.items():
            late_seconds = 0.0 if value is None else -value
            if late_seconds < self._patience_seconds:
                self._since.pop(job, None)
                self._tell(job, "")
            # A business clock that leaps has all of it due long since, for a moment.
            elif now - self._since.setdefault(job, now) >= self._patience_seconds / 2:
                self._tell(job, f"its first work has been due for {late_seconds:.0f} seconds, and nobody takes it")

    def _tell(self, job: str, found: str) -> None:
        before = note_alarm(self._alarms, f"work of {job}", found)
        if found and not before:
            log.error("work_untaken", job=job)
        if before and not found:
            log.warning("work_taken", job=job)
