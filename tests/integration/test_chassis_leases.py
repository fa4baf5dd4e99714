"""Work that lies in rows: one worker at a time, put off for longer after each try, and fenced by the epoch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from services.chassis.data import leases
from services.chassis.data.database import Database
from services.chassis.data.leadership import Leadership
from services.chassis.data.transaction import Tx
from tests.support import chassis
from tests.support.chassis import work

TAKING = leases.build_taking(work, lease_ms=60_000, count_max=10)


@pytest.fixture
async def tx(database: Database) -> AsyncIterator[Tx]:
    """A transaction with the rows `a` and `b`, both due."""
    async with database.begin_for_all() as tx:
        for name in ("a", "b"):
            await tx.execute(sa.insert(work).values(org_id="org_1", work_id=name, due_at=leases.due_in(-1_000)))
        yield tx


async def take(tx: Tx) -> list[dict[str, Any]]:
    return [row._mapping for row in await tx.execute(TAKING.statement)]


async def make_due(tx: Tx) -> None:
    await tx.execute(sa.update(work).values(due_at=leases.due_in(-1_000)))


async def test_what_is_taken_is_nobody_elses_until_the_lease_runs_out(tx: Tx) -> None:
    first = await take(tx)
    assert sorted((row["work_id"], row["epoch"], row["tries"]) for row in first) == [("a", 1, 1), ("b", 1, 1)]
    assert await take(tx) == []
    await make_due(tx)
    assert sorted((row["work_id"], row["epoch"], row["tries"]) for row in await take(tx)) == [("a", 2, 2), ("b", 2, 2)]


async def test_a_job_takes_rows_of_every_organization_in_one_statement(database: Database) -> None:
    async with database.begin_for_all() as tx:
        for org_id in ("org_1", "org_2"):
            await tx.execute(sa.insert(work).values(org_id=org_id, work_id="c", due_at=leases.due_in(-1_000)))
    taken = await leases.take(database, TAKING)
    assert sorted((row.org_id, row.work_id, row.epoch) for row in taken) == [("org_1", "c", 1), ("org_2", "c", 1)]
    assert await leases.take(database, TAKING) == []


async def test_who_holds_an_older_lease_records_nothing(tx: Tx) -> None:
    stale = await take(tx)
    await make_due(tx)
    fresh = await take(tx)
    assert await leases.lock_taken(tx, work, stale) == []
    assert [row.work_id for row in await leases.lock_taken(tx, work, fresh)] == ["a", "b"]
    assert not await leases.finish(tx, work, stale[0])
    assert await leases.finish(tx, work, fresh[0])
    await make_due(tx)


async def test_a_row_is_put_off_for_longer_after_each_try_and_as_long_as_somebody_wishes(tx: Tx) -> None:
    pauses = []
    for least_ms in (0, 0, 90_000):
        await make_due(tx)
        [taken, *_] = sorted(await take(tx), key=lambda row: str(row["work_id"]))
        assert await leases.postpone(tx, work, taken, least_ms=least_ms)
        wait = sa.extract("epoch", work.c.due_at - sa.func.clock_timestamp())
        pauses.append(float(await tx.scalar(sa.select(wait).where(work.c.work_id == "a")) or 0))
    assert 0 < pauses[0] <= 0.5
    assert 0.4 < pauses[1] <= 1
    assert 80 < pauses[2] <= 90


@pytest.mark.parametrize(("tries", "pause_ms"), [(0, 500), (1, 500), (2, 1_000), (5, 8_000), (8, 60_000), (99, 60_000)])
def test_the_pause_doubles_to_a_minute_and_jitter_takes_up_to_half(tries: int, pause_ms: int) -> None:
    assert leases.backoff_ms(tries) == pause_ms
    for _ in range(100):
        assert pause_ms // 2 <= leases.add_jitter(pause_ms) <= pause_ms


async def test_of_two_processes_one_leads_and_the_other_follows_when_it_gives_up_or_dies(database, urls):
    async with chassis.opened(urls) as other_database:
        first, second = Leadership(database, "relay"), Leadership(other_database, "relay")
        assert await first.hold()
        assert await first.hold()
        assert not await second.hold()
        assert await Leadership(other_database, "something else").hold()
        await first.give_up()
        assert await second.hold()
        assert not await first.hold()
        async with chassis.as_superuser(urls) as admin:  # as if it had died a while ago
            await admin.execute("UPDATE leaders SET until = clock_timestamp() - interval '1 second'")
        assert await first.hold()
