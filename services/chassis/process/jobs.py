"""Timers, and what is due in rows: done in bounded batches, by jobs that outlive their failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from services.chassis.process.health import Alarms
from services.chassis.process.loops import GATHERING_SECONDS, Failures, backoff_seconds, wait_for_any
from services.chassis.process.telemetry import JOB_RUNS, continue_trace, log
from services.chassis.values.invariant import invariant

# While nothing is due, it is looked for work as rarely as this, and when the first row is due. What leaves some in the
# same process says so, so nobody waits for the next look.
SWEEP_SECONDS = 5.0
# As long as something is due: somebody may have it locked, or it waits for another process.
WORK_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """What runs when there is work, or else from time to time.

    `run` does one bounded batch and returns how much it did: while that is more than 0 there may be more to do.
    Several processes may run the same job, so it claims its rows (FOR UPDATE SKIP LOCKED).

    Args:
        interval_seconds: How long it waits after it found nothing; None where it waits for work.
        work: In how many seconds there is some, where that is before the next sweep, else null; asked of the rows of
            the service, for all jobs in one statement (services/chassis/data/work.py).
    """

    name: str
    run: Callable[[], Awaitable[int]]
    interval_seconds: float | None = None
    work: sa.ColumnElement[float] | None = None

    def __post_init__(self) -> None:
        invariant((self.interval_seconds is None) is not (self.work is None), "a job says when it runs, in one way")


class Found(NamedTuple):
    """What there is to do.

    Args:
        due: The names of the jobs that have work.
        next_seconds: When the next one has; None: none before the next sweep.
    """

    due: Collection[str]
    next_seconds: float | None = None


FindWork = Callable[[], Awaitable[Found]]


async def run_jobs(
    jobs: Sequence[Job], stop: asyncio.Event, work_due: asyncio.Event, alarms: Alarms, find_work: FindWork
) -> None:
    """Runs each job in a task of its own until `stop` is set: all at first, then as each says.

    Args:
        work_due: Set by what leaves work: it is looked for then, and not only when some is known to be due.
        alarms: Names the jobs that fail for minutes, as long as they do.
    """
    look = _Look([job.name for job in jobs if job.work is not None], work_due, find_work)
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_run(job, stop, look, alarms))
        if look.wakes:
            group.create_task(_keep_looking(look, stop, alarms))


class _Look:
    """Who waits for work.

    Args:
        names: Of the jobs that do.
    """

    def __init__(self, names: Iterable[str], work_due: asyncio.Event, find_work: FindWork) -> None:
        self.wakes = {name: asyncio.Event() for name in names}
        self.work_due, self._find_work = work_due, find_work
        # Whether it can be asked who has work. Where it cannot, since of one job it cannot, each looks for itself.
        self.is_sound = True

    async def look(self) -> float:
        """Wakes those that have work. In how many seconds it is to be looked again."""
        self.work_due.clear()
        try:
            found = await self._find_work()
        except Exception:
            self.is_sound = False
            for wake in self.wakes.values():
                wake.set()
            raise
        self.is_sound = True
        for name in found.due:
            self.wakes[name].set()
        most = WORK_SECONDS if found.due else SWEEP_SECONDS
        return most if found.next_seconds is None else min(most, found.next_seconds)


async def _keep_looking(look: _Look, stop: asyncio.Event, alarms: Alarms) -> None:
    failures = Failures(alarms, "job find_work")
    while not stop.is_set():
        try:
            seconds = await look.look()
        except Exception as error:
            await _pause_after(failures, "find_work", error, stop)
            continue
        failures.end()
        await wait_for_any(stop, seconds=GATHERING_SECONDS)
        await wait_for_any(stop, look.work_due, seconds=seconds)


async def _run(job: Job, stop: asyncio.Event, look: _Look, alarms: Alarms) -> None:
    failures = Failures(alarms, f"job {job.name}")
    wake = look.wakes.get(job.name)
    news = (stop,) if wake is None else (stop, wake)
    while not stop.is_set():
        if wake is not None:
            wake.clear()
        continue_trace(None)
        try:
            done = await job.run()
        except Exception as error:  # a job that fails now is due again soon
            await _pause_after(failures, job.name, error, stop)
            continue
        failures.end()
        JOB_RUNS.labels(job.name, "done").inc()
        if done and (wake is None or not look.is_sound):
            await asyncio.sleep(0)  # a job that never waits must not keep the others from their turn
            continue
        if done:
            look.work_due.set()  # for another job, perhaps, and there may be more for this one
        await wait_for_any(*news, seconds=job.interval_seconds)


async def _pause_after(failures: Failures, name: str, error: Exception, stop: asyncio.Event) -> None:
    failures.add(error)
    JOB_RUNS.labels(name, "failed").inc()
    log.warning("job_failed", job=name, failures=failures.count, error=type(error).__name__, exc_info=error)
    await wait_for_any(stop, seconds=backoff_seconds(failures.count, most=30))
