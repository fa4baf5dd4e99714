"""Timers: what is due is found in rows, in bounded batches, by jobs that outlive their failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.chassis.process.health import Alarms
from services.chassis.process.loops import Failures, backoff_seconds, wait_for_any
from services.chassis.process.telemetry import JOB_RUNS, continue_trace, log

# How often it is looked for work. What leaves some in the same process says so, so nobody waits for the next look.
WORK_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """Work that is due from time to time.

    `run` does one bounded batch and returns how much it did: while that is more than 0 it is called again at once.
    Several processes may run the same job, so it claims its rows (FOR UPDATE SKIP LOCKED).

    Args:
        follows_work: It goes on with what a request, an event or another job left to do, so it runs as soon as there
            may be some. Others find what time makes due, and would find nothing new.
    """

    name: str
    run: Callable[[], Awaitable[int]]
    interval_seconds: float
    follows_work: bool = False


async def run_jobs(jobs: Sequence[Job], stop: asyncio.Event, work_due: asyncio.Event, alarms: Alarms) -> None:
    """Runs each job in a task of its own until `stop` is set: every interval, and what follows work also whenever
    `work_due` is set. `alarms` names those that fail for minutes, as long as they do.
    """
    wakes = [asyncio.Event() for _ in jobs]
    following = [wake for job, wake in zip(jobs, wakes, strict=True) if job.follows_work]
    async with asyncio.TaskGroup() as group:
        for job, wake in zip(jobs, wakes, strict=True):
            group.create_task(_run(job, stop, wake, alarms))
        while not stop.is_set():
            await wait_for_any(stop, work_due, seconds=3600)
            work_due.clear()
            # Each job has an event of its own, so one that is busy now does not miss the news.
            for wake in following:
                wake.set()


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
