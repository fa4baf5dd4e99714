"""A read of one round trip sees its caller's organization only, and a connection that was cut is never used again."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace

import asyncpg
import pytest
import sqlalchemy as sa

from services.chassis.calls.auth import acting_as
from services.chassis.data import pool
from services.chassis.data.database_errors import sqlstate
from services.chassis.data.listings import Listing
from services.chassis.data.paging import Page
from services.chassis.data.pool import PoolExhausted
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, fetch_row, fetch_rows
from services.chassis.values.invariant import InvariantViolation
from tests.support import chassis

c = chassis.notes.c
MINE = sa.select(c.note_id, c.body).where(is_mine(chassis.notes))
ALL = Read(MINE.order_by(c.note_id))
BY_ID = Read(MINE.where(c.note_id == sa.bindparam("note_id")))
SLOW = Read(sa.select(c.note_id, sa.func.pg_sleep(20).label("slept")).where(is_mine(chassis.notes)))
PID = Read(sa.select(c.note_id, sa.func.pg_backend_pid().label("pid")).where(is_mine(chassis.notes)))


@contextmanager
def of(org_id: str):
    with acting_as(replace(chassis.ADMIN, org_id=org_id)):
        yield


@pytest.fixture
async def database(urls):
    # Connections that no test before has used, and one at a time: each read after the first is on a used one.
    async with chassis.opened(urls, connections_max=1) as database:
        for org_id in ("org_1", "org_2"):
            async with database.begin(org_id) as tx:
                await chassis.add_note(tx, f"note of {org_id}", org_id)
        yield database


@pytest.mark.parametrize("org_id", ["org_1", "org_2", "org_3", "*", "", "%", "org_2' OR 'x' = 'x", "org_1,org_2"])
async def test_a_read_sees_its_own_organization_only_whoever_asked_before(database, org_id):
    own = [f"note of {org_id}"] if org_id in ("org_1", "org_2") else []
    for before in ("org_1", org_id):
        with of(before):
            await fetch_rows(database.reader, ALL)
    with of(org_id):
        assert [row.note_id for row in await fetch_rows(database.reader, ALL)] == own
        of_another = await fetch_row(database.reader, BY_ID, note_id="note of org_2")
        assert (of_another is not None) is (org_id == "org_2")


async def test_row_level_security_is_asked_though_the_statement_forgets_whose_rows_it_reads(database):
    """The organization is set before any row is looked at, and what forgets to ask for it finds its own at most."""
    forgetful = Read(MINE)
    text = forgetful.text
    assert text.count("public.notes.org_id = caller.org") == 1
    forgetful.__dict__["text"] = text.replace("public.notes.org_id = caller.org", "caller.org IS NOT NULL")
    with of("org_2"):
        for _ in range(8):  # more often than PostgreSQL plans anew
            assert [row.note_id for row in await fetch_rows(database.reader, forgetful)] == ["note of org_2"]


async def test_nothing_is_left_on_a_connection_that_could_be_read_with(database):
    with of("org_1"):
        await fetch_rows(database.reader, ALL)
    connection = await database.reader.pool.acquire()
    assert await connection.fetchval("SELECT count(*) FROM notes") == 0
    connection.terminate()


async def test_a_read_that_does_not_say_whose_rows_it_is_about_is_never_sent(database):
    with of("org_1"), pytest.raises(InvariantViolation, match="whose rows"):
        await fetch_rows(database.reader, Read(sa.select(c.note_id)))
    with pytest.raises(InvariantViolation, match="no principal"):
        await fetch_rows(database.reader, ALL)


async def test_a_cancelled_read_never_gives_its_connection_back(urls, database):
    with of("org_1"):
        [first] = await fetch_rows(database.reader, PID)
        slow = asyncio.create_task(fetch_rows(database.reader, SLOW))
        async with chassis.as_superuser(urls) as admin:
            await chassis.until(
                lambda: admin.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", first.pid
                )
            )
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            [second] = await fetch_rows(database.reader, PID)  # there is one place, and it is free at once
            assert second.pid != first.pid
            # The server is told, too: it does not go on for nobody.
            await chassis.until(
                lambda: admin.fetchval("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $1", first.pid)
            )


async def test_a_connection_the_server_dropped_is_replaced_before_anybody_notices(urls, database):
    with of("org_1"):
        [first] = await fetch_rows(database.reader, PID)
        async with chassis.as_superuser(urls) as admin:
            await admin.execute("SELECT pg_terminate_backend($1)", first.pid)
        [second] = await fetch_rows(database.reader, PID)
        assert second.pid != first.pid


async def test_who_waits_for_a_connection_gets_it_or_is_told_to_try_again(database, monkeypatch):
    with of("org_1"):
        found = await asyncio.gather(*(fetch_rows(database.reader, PID) for _ in range(5)))
        assert len({rows[0].pid for rows in found}) == 1
        slow = asyncio.create_task(fetch_rows(database.reader, SLOW))
        await asyncio.sleep(0)
        monkeypatch.setattr(pool, "_WAIT_SECONDS", 0.05)
        with pytest.raises(PoolExhausted):
            await fetch_rows(database.reader, ALL)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert len(await fetch_rows(database.reader, ALL)) == 1


async def test_what_a_login_makes_of_its_own_defaults_misleads_no_read(postgres):
    urls = await chassis.create(postgres)
    async with chassis.opened(urls, connections_max=1) as database:
        async with database.begin("org_1") as tx:
            await chassis.add_note(tx, "kept")
            for name, value in {"search_path": "pg_catalog", "timezone": "Asia/Tokyo", "array_nulls": "off"}.items():
                await tx.execute(sa.text(f"ALTER ROLE CURRENT_USER SET {name} = '{value}'"))
        with of("org_1"):
            assert [row.note_id for row in await fetch_rows(database.reader, ALL)] == ["kept"]
    async with chassis.opened(urls, connections_max=1) as database:
        async with database.begin("org_1") as tx:
            await tx.execute(sa.text("ALTER ROLE CURRENT_USER SET row_security = off"))
        with of("org_1"), pytest.raises(asyncpg.PostgresError) as refused:
            await fetch_rows(database.reader, ALL)
        assert sqlstate(refused.value) == "42501", "better no answer than one past row level security"


LISTINGS = [
    Listing(MINE.add_columns(c.size), (c.note_id,), {"body": c.body}, party=c.body, named=named)
    for named in ((), {"body"})
]


@pytest.mark.parametrize(
    ("confined", "parties", "bodies", "found"),
    [
        (False, (), (), ["a", "b", "c"]),
        (False, (), ("x",), ["a"]),
        (False, (), ("x", "y"), ["a", "b"]),
        (True, ("x",), (), ["a"]),
        (True, ("x", "y"), ("y",), ["b"]),
        (True, (), (), []),
        (True, (), ("x",), []),
    ],
)
async def test_a_list_has_what_its_filters_let_through_of_what_the_caller_may_reach(
    database, confined, parties, bodies, found
):
    async with database.begin("org_4") as tx:
        for note_id, body in (("a", "x"), ("b", "y"), ("c", "z")):
            await tx.execute(chassis.notes.insert().values(org_id="org_4", note_id=note_id, body=body))
    role = "investor" if confined else "admin"
    caller = replace(chassis.ADMIN, org_id="org_4", role=role, parties=frozenset(parties))
    page = Page(2, None, False, "")
    with acting_as(caller):
        for listing in LISTINGS:
            rows = list(await listing.fetch_beside(database.reader, page, {"body": bodies}, descending=False))
            if len(rows) > page.size:
                last = listing.key_of(page.cut(rows, listing.key_of).rows[-1])
                rest = replace(page, beside=last)
                rows[2:] = await listing.fetch_beside(database.reader, rest, {"body": bodies}, descending=False)
            assert [row.note_id for row in rows] == found
