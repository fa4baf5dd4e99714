"""Timers run on through failures, and forget what has served its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import sqlalchemy as sa

from services.chassis.data import leases
from services.chassis.data.database import Database
from services.chassis.data.housekeeping import forget_old_rows
from services.chassis.data.tables import handled_events
from services.chassis.data.tables import outbox as outbox_table
from services.chassis.data.work import WorkFinder
from services.chassis.process import jobs, loops
from services.chassis.process.clock_watch import watch_clock
from services.chassis.process.jobs import Found, Job, run_jobs
from services.chassis.values.clock import FakeClock, FileClock
from tests.support import chassis
from tests.support.chassis import work
from tests.support.chassis_events import emit, running
from tests.support.databases import connect


def running_jobs(these: Sequence[Job], work_due: asyncio.Event | None = None, *, alarms=None, find_work=None):
    """These jobs, until the block ends."""
    due, told, find = work_due or asyncio.Event(), {} if alarms is None else alarms, find_work or chassis.find_no_work
    return running(lambda stop: run_jobs(these, stop, due, told, find))


async def test_a_job_runs_on_while_there_is_work_and_outlives_its_failures(monkeypatch):
    monkeypatch.setattr(loops, "ALARM_SECONDS", 0.0)  # and not minutes
    work, alarms, found = [3, ValueError("once"), 2, 0], {}, []
    runs: list = []

    async def run() -> int:
        found.append(dict(alarms))
        runs.append(work[len(runs)])
        if isinstance(runs[-1], Exception):
            raise runs[-1]
        return runs[-1]

    async with running_jobs([Job("j", run, interval_seconds=3600)], alarms=alarms):
        await chassis.until(lambda: runs == work)
    assert found == [{}, {}, {"job j": "failed 1 times in a row: ValueError"}, {}]


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


class Worker:
    """Two jobs for rows of a table, and what they took."""

    def __init__(self, database: Database) -> None:
        self._database, self.taken = database, []
        self._takings = {name: leases.build_taking(work, count_max=9, where=work.c.work_id == name) for name in "ab"}
        self.jobs = [
            Job(name, partial(self._run, name), work=taking.first_due) for name, taking in self._takings.items()
        ]
        self.finder = WorkFinder(database, FakeClock(chassis.NOW), self.jobs, {})
        self.is_asked, self.asked = True, 0

    async def leave(self, *names: str, due_ms: int = 0) -> None:
        async with self._database.begin("org_1") as tx:
            rows = [{"org_id": "org_1", "work_id": name} for name in names]
            await tx.execute(sa.insert(work).values(due_at=leases.due_in(due_ms)), rows)

    async def find(self) -> Found:
        self.asked += 1
        if not self.is_asked:
            raise ConnectionError
        return await self.finder.find()

    async def _run(self, name: str) -> int:
        async with self._database.begin_for_all() as tx:
            taken = (await tx.execute(self._takings[name].statement)).all()
        self.taken.append((name, len(taken)))
        return len(taken)

    def have_looked(self) -> bool:
        """Whether each job ran once, as each does at first, and found nothing."""
        return sorted(self.taken) == [("a", 0), ("b", 0)]


async def test_a_job_that_waits_for_work_runs_once_there_is_some_and_never_for_that_of_another(database, monkeypatch):
    worker, work_due = Worker(database), asyncio.Event()
    async with running_jobs(worker.jobs, work_due, find_work=worker.find):
        await chassis.until(worker.have_looked)
        await worker.leave("b")
        work_due.set()
        await chassis.until(lambda: worker.taken[2:] == [("b", 1)])

    monkeypatch.setattr(jobs, "SWEEP_SECONDS", 0.05)
    worker.taken.clear()
    async with running_jobs(worker.jobs, find_work=worker.find):
        await chassis.until(lambda: len(worker.taken) == 2)
        await worker.leave("a")  # by another process: nobody says so
        await chassis.until(lambda: worker.taken[2:] == [("a", 1)])


async def test_what_is_due_soon_is_done_then_and_nobody_looks_before(database):
    worker = Worker(database)
    await worker.leave("a", due_ms=600)
    await worker.leave("b", due_ms=3_600_000)
    async with running_jobs(worker.jobs, find_work=worker.find):
        began = time.monotonic()
        await chassis.until(lambda: worker.taken[2:] == [("a", 1)])
        assert time.monotonic() - began < jobs.SWEEP_SECONDS
    assert worker.asked <= 3


async def test_who_says_that_there_is_work_while_it_is_looked_for_is_heard(database, monkeypatch):
    monkeypatch.setattr(jobs, "SWEEP_SECONDS", 120)  # so that no sweep finds it, however slow the machine is
    worker, work_due, begun, may_end = Worker(database), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def find() -> Found:
        found = await worker.find()
        begun.set()
        await may_end.wait()
        return found

    async with running_jobs(worker.jobs, work_due, find_work=find):
        await begun.wait()
        await chassis.until(worker.have_looked)
        await worker.leave("a")
        work_due.set()
        may_end.set()
        await chassis.until(lambda: worker.taken[2:] == [("a", 1)], seconds=jobs.SWEEP_SECONDS / 2)


async def test_what_leaves_work_within_a_moment_has_it_looked_for_once(database, monkeypatch):
    monkeypatch.setattr(jobs, "GATHERING_SECONDS", 0.5)
    worker, work_due = Worker(database), asyncio.Event()
    async with running_jobs(worker.jobs, work_due, find_work=worker.find):
        for _ in range(20):
            work_due.set()
            await asyncio.sleep(0.01)
        await chassis.until(worker.have_looked)
        await worker.leave("a")
        work_due.set()
        await chassis.until(lambda: worker.taken[2:] == [("a", 1)])
    assert worker.asked <= 5


async def test_a_local_clock_that_jumps_has_work_looked_for_at_once(tmp_path):
    file, work_due = tmp_path / "clock.json", asyncio.Event()
    async with running(lambda stop: watch_clock(FileClock(file), stop, work_due)):
        for offset in (60, 0):
            await asyncio.sleep(0)
            file.write_text(f'{{"offset_seconds": {offset}}}')
            await asyncio.wait_for(work_due.wait(), 5)
            work_due.clear()


async def test_much_work_is_done_batch_after_batch(database):
    worker = Worker(database)
    names = [f"a{number}" for number in range(30)]
    taking = leases.build_taking(work, count_max=9)
    worker._takings, worker.jobs = {"a": taking}, [Job("a", partial(worker._run, "a"), work=taking.first_due)]
    worker.finder = WorkFinder(database, FakeClock(chassis.NOW), worker.jobs, {})
    await worker.leave(*names)
    async with running_jobs(worker.jobs, find_work=worker.find):
        await chassis.until(lambda: sum(count for _, count in worker.taken) == len(names), seconds=jobs.WORK_SECONDS)


async def test_where_nobody_can_say_who_has_work_each_looks_for_itself(database):
    worker = Worker(database)
    worker.is_asked = False
    await worker.leave("a", "b")
    async with running_jobs(worker.jobs, find_work=worker.find):
        await chassis.until(lambda: {("a", 1), ("b", 1)} <= set(worker.taken))


async def test_what_has_served_its_time_is_forgotten_and_nothing_else(urls, database):
    await emit(database, "old", "unpublished", "new")
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(
            "SET session_replication_role = replica;"  # days ago, whatever triggers say of it
            "UPDATE outbox SET published_at = now() - interval '36 days' WHERE id = (SELECT min(id) FROM outbox);"
            "UPDATE outbox SET published_at = now() - interval '34 days' WHERE id = (SELECT max(id) FROM outbox);"
            "UPDATE outbox SET created_at = now() - interval '99 days';"
            "INSERT INTO handled_events (org_id, consumer, event_id, created_at, incarnation)"
            " SELECT 'org_1', 'c', gen_random_uuid(), now() - n * interval '1 day', '' FROM unnest(ARRAY[400, 402]) n"
        )
    assert await forget_old_rows(database) == 2
    assert await forget_old_rows(database) == 0
    async with database.begin_for_all() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(outbox_table)) == 2
        assert await tx.scalar(sa.select(sa.func.count()).select_from(handled_events)) == 1


async def test_work_that_is_passed_over_for_minutes_is_an_alarm_until_it_is_taken(database, urls):
    """Two sessions that lock its rows in turns: neither keeps a lock for long, and nobody waits for either."""
    worker, alarms = Worker(database), {}
    finder = WorkFinder(database, FakeClock(chassis.NOW), worker.jobs, alarms, patience_seconds=0.4)
    await worker.leave("a")
    lock = "BEGIN; SELECT set_config('app.org_id', 'org_1', true); SELECT FROM work FOR SHARE"
    async with connect(urls.app_url) as one, connect(urls.app_url) as other:
        await one.execute(lock)
        for turn in range(20):
            holder, next_holder = (one, other) if turn % 2 == 0 else (other, one)
            await next_holder.execute(lock)
            await holder.execute("COMMIT")
            await worker.jobs[0].run()
            assert "a" in (await finder.find()).due
            await asyncio.sleep(0.05)
    assert alarms["work of a"].endswith("seconds, and nobody takes it")
    assert await worker.jobs[0].run() == 1
    await finder.find()
    assert alarms == {}
