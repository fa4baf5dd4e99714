"""Timers, and what is due in rows: done in bounded batches, by jobs that outlive their failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from services.chassis.process.health import Alarms
from services.chassis.process.loops import Failures, backoff_seconds, wait_for_any
from services.chassis.process.telemetry import JOB_RUNS, continue_trace, log
from services.chassis.values.invariant import invariant

# How often it is looked for work. What leaves some in the same process says so, so nobody waits for the next look.
WORK_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """What runs when there is work, or else from time to time.

    `run` does one bounded batch and returns how much it did: while that is more than 0 it is called again at once.
    Several processes may run the same job, so it claims its rows (FOR UPDATE SKIP LOCKED).

    Args:
        interval_seconds: How long it waits after it found nothing; None where it waits for work.
        work: Whether there is some, as a condition on the rows of the service: asked for all jobs in one statement
            (services/chassis/data/work.py).
    """

    name: str
    run: Callable[[], Awaitable[int]]
    interval_seconds: float | None = None
    work: sa.ColumnElement[bool] | None = None

    def __post_init__(self) -> None:
        invariant((self.interval_seconds is None) is not (self.work is None), "a job says when it runs, in one way")


# The names of the jobs that have work.
FindWork = Callable[[], Awaitable[Collection[str]]]


async def run_jobs(
    jobs: Sequence[Job], stop: asyncio.Event, work_due: asyncio.Event, alarms: Alarms, find_work: FindWork
) -> None:
    """Runs each job in a task of its own until `stop` is set: all at first, then as each says.

    Args:
        work_due: Set by what leaves work: it is looked for then, and not only every second.
        alarms: Names the jobs that fail for minutes, as long as they do.
    """
    wakes = {job.name: asyncio.Event() for job in jobs}
    waiting = [job.name for job in jobs if job.work is not None]

    async def look() -> int:
        found: Collection[str] = waiting  # where it cannot be asked, since of one it cannot, each looks for itself
        try:
            found = await find_work()
        finally:
            for name in found:
                wakes[name].set()
        return 0

    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_run(job, stop, wakes[job.name], alarms))
        if waiting:
            group.create_task(_run(Job("find_work", look, WORK_SECONDS), stop, work_due, alarms))


async def _run(job: Job, stop: asyncio.Event, wake: asyncio.Event, alarms: Alarms) -> None:
    failures = Failures(alarms, f"job {job.name}")
    while not stop.is_set():
        wake.clear()
        continue_trace(None)
        try:
            done = await job.run()
        except Exception as error:  # a job that fails now is due again soon
            failures.add(error)
            JOB_RUNS.labels(job.name, "failed").inc()
            log.warning("job_failed", job=job.name, failures=failures.count, error=type(error).__name__, exc_info=error)
            await wait_for_any(stop, seconds=backoff_seconds(failures.count, most=30))
            continue
        failures.end()
        JOB_RUNS.labels(job.name, "done").inc()
        if done == 0:
            await wait_for_any(stop, wake, seconds=job.interval_seconds)
        else:
            await asyncio.sleep(0)  # a job that never waits must not keep the others from their turn
