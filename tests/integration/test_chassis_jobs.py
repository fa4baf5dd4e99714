"""Timers run on through failures, and forget what has served its time."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from services.chassis.data.housekeeping import forget_old_rows
from services.chassis.data.tables import handled_events
from services.chassis.data.tables import outbox as outbox_table
from services.chassis.process import loops
from services.chassis.process.jobs import Job, run_jobs
from tests.support import chassis
from tests.support.chassis_events import emit, running


async def test_a_job_runs_on_while_there_is_work_and_outlives_its_failures(monkeypatch):
    monkeypatch.setattr(loops, "ALARM_SECONDS", 0.0)  # and not minutes
    work, alarms, found = [3, ValueError("once"), 2, 0], {}, []
    runs: list = []

    async def run() -> int:
        found.append(dict(alarms))
        runs.append(work[min(len(runs), len(work) - 1)])
        if isinstance(runs[-1], Exception):
            raise runs[-1]
        return runs[-1]

    work_due = asyncio.Event()

    async def jobs(stop):
        await run_jobs([Job("j", run, interval_seconds=3600, follows_work=True)], stop, work_due, alarms)

    async with running(jobs):
        await chassis.until(lambda: runs == work)
        work_due.set()  # the interval is an hour; the work is there now
        await chassis.until(lambda: len(runs) == 5)
    assert found == [{}, {}, {"job j": "failed 1 times in a row: ValueError"}, {}, {}]


async def test_a_loop_that_fails_for_minutes_is_an_alarm_until_it_goes_on_for_a_while(monkeypatch):
    monkeypatch.setattr(loops, "ALARM_SECONDS", 0.2)  # and not minutes
    monkeypatch.setattr(loops, "STEADY_SECONDS", 0.2)
    alarms, is_away = {}, True

    async def work() -> None:
        if is_away:
            raise ConnectionError
        await asyncio.sleep(3600)

    repeating = asyncio.create_task(loops.repeat_work("w", asyncio.Event(), work, alarms))
    await asyncio.sleep(0)
    assert alarms == {}
    await chassis.until(lambda: "ConnectionError" in alarms.get("work w", ""))
    is_away = False
    await chassis.until(lambda: not alarms)
    repeating.cancel()


async def test_what_follows_no_work_is_not_woken_by_it():
    runs: list[str] = []

    def build(name: str, *, follows_work: bool) -> Job:
        async def run() -> int:
            runs.append(name)
            return 0

        return Job(name, run, interval_seconds=3600, follows_work=follows_work)

    work_due, jobs = asyncio.Event(), [build("timer", follows_work=False), build("step", follows_work=True)]

    async with running(lambda stop: run_jobs(jobs, stop, work_due, {})):
        await chassis.until(lambda: len(runs) == 2)
        for count in (2, 3):
            work_due.set()
            await chassis.until(lambda count=count: runs.count("step") == count)
    assert runs.count("timer") == 1


async def test_what_has_served_its_time_is_forgotten_and_nothing_else(urls, database):
    await emit(database, "old", "unpublished", "new")
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(
            "SET session_replication_role = replica;"  # days ago, whatever triggers say of it
            "UPDATE outbox SET published_at = now() - interval '36 days' WHERE id = (SELECT min(id) FROM outbox);"
            "UPDATE outbox SET published_at = now() - interval '34 days' WHERE id = (SELECT max(id) FROM outbox);"
            "UPDATE outbox SET created_at = now() - interval '99 days';"
            "INSERT INTO handled_events (org_id, consumer, event_id, created_at)"
            " SELECT 'org_1', 'c', gen_random_uuid(), now() - n * interval '1 day' FROM unnest(ARRAY[400, 402]) n"
        )
    assert await forget_old_rows(database) == 2
    assert await forget_old_rows(database) == 0
    async with database.begin_for_all() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(outbox_table)) == 2
        assert await tx.scalar(sa.select(sa.func.count()).select_from(handled_events)) == 1
