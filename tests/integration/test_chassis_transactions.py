"""SQLAlchemy's statements, sent by the driver: each does what it says, and a value is read as it was written."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data import pool as pool_of
from services.chassis.data import sql
from services.chassis.data.pool import Pool
from services.chassis.data.sql import compile_statement
from services.chassis.values.invariant import InvariantViolation
from tests.support import chassis

notes, c = chassis.notes, chassis.notes.c


@pytest.fixture
async def tx(database):
    async with database.begin("org_1") as tx:
        for name in ("a", "b", "c"):
            await chassis.add_note(tx, name)
        yield tx


async def test_rows_have_their_columns_as_attributes_and_come_in_order(tx):
    found = await tx.execute(sa.select(c.note_id, sa.func.upper(c.note_id).label("loud")).order_by(c.note_id.desc()))
    assert [(row.note_id, row.loud) for row in found] == [("c", "C"), ("b", "B"), ("a", "A")]
    assert found.all()[0]._mapping == {"note_id": "c", "loud": "C"}
    assert await tx.scalars(sa.select(c.note_id).order_by(c.note_id)) == ["a", "b", "c"]
    assert await tx.scalar(sa.select(c.note_id).where(c.note_id == "z")) is None


async def test_one_row_is_one_row(tx):
    by_name = sa.select(c.note_id).where(c.note_id == sa.bindparam("name"))
    assert (await tx.execute(by_name, {"name": "a"})).one().note_id == "a"
    assert (await tx.execute(by_name, {"name": "z"})).one_or_none() is None
    with pytest.raises(InvariantViolation):
        (await tx.execute(by_name, {"name": "z"})).one()
    with pytest.raises(InvariantViolation):
        (await tx.execute(sa.select(c.note_id))).one_or_none()


async def test_a_write_tells_how_many_rows_it_wrote(tx):
    assert (await tx.execute(sa.update(notes).where(c.note_id != "a").values(body="new"))).rowcount == 2
    assert (await tx.execute(sa.delete(notes).where(c.note_id == "z"))).rowcount == 0
    row = pg.insert(notes).values(org_id="org_1", note_id="a", body="", size=0)
    assert (await tx.execute(row.on_conflict_do_nothing())).rowcount == 0
    written = await tx.execute(sa.update(notes).values(body="newer").returning(c.note_id))
    assert (written.rowcount, {row.note_id for row in written}) == (3, {"a", "b", "c"})


async def test_many_rows_are_written_with_one_statement_and_none_with_none(tx):
    rows = [{"org_id": "org_1", "note_id": f"n{number}", "body": "", "size": number} for number in range(3)]
    assert (await tx.execute(sa.insert(notes), rows)).rowcount == 3
    assert (await tx.execute(sa.insert(notes), [])).rowcount == 0
    rows = [row | {"note_id": f"r{number}"} for number, row in enumerate(rows)]
    made = await tx.execute(sa.insert(notes).returning(c.note_id), rows)
    assert [row.note_id for row in made] == ["r0", "r1", "r2"]
    change = sa.update(notes).where(c.note_id == sa.bindparam("name")).values(size=sa.bindparam("to"))
    await tx.execute(change, [{"name": f"n{number}", "to": number + 10} for number in range(3)])
    assert await tx.scalars(sa.select(c.size).where(c.note_id.like("n%")).order_by(c.size)) == [10, 11, 12]


async def test_statements_that_differ_in_values_alone_are_compiled_once(tx):
    for name in ("a", "b", "c", "z"):
        before = len(sql._shapes)
        assert await tx.scalar(sa.select(c.note_id).where(c.note_id == name)) == (name if name != "z" else None)
        if name != "a":
            assert len(sql._shapes) == before
    kept = sa.select(c.note_id).where(c.note_id == sa.bindparam("name"))
    assert compile_statement(kept) is compile_statement(kept)


async def test_a_statement_that_was_run_is_built_upon_as_if_it_had_not_been(tx):
    change = sa.update(notes).where(c.note_id == sa.bindparam("name")).values(body="new")
    await tx.execute(change, {"name": "a"})
    changed = change.returning(c.note_id, c.body).cte("changed")
    assert list(changed.c.keys()) == ["note_id", "body"]
    found = await tx.execute(sa.select(changed), {"name": "b"})
    assert [(row.note_id, row.body) for row in found] == [("b", "new")]


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["z"], [], ["a", "b", "c", "a"], ["a' OR 'x' = 'x"]])
async def test_a_list_of_any_length_is_compared_with(tx, names):
    found = await tx.scalars(sa.select(c.note_id).where(c.note_id.in_(names)).order_by(c.note_id))
    assert found == sorted({*names} & {"a", "b", "c"})
    pairs = [("org_1", name) for name in names]
    by_pair = sa.select(c.note_id).where(sa.tuple_(c.org_id, c.note_id).in_(pairs)).order_by(c.note_id)
    assert await tx.scalars(by_pair) == found


VALUES = [
    (pg.JSONB(), {"text": "ü\"'", "whole": 2**80, "list": [1, None, True], "none": {}}),
    (pg.JSONB(none_as_null=True), None),
    (pg.ARRAY(sa.Text), ["a", "", "NULL", '"', "{}"]),
    (pg.ARRAY(sa.BigInteger), [2**62, -1]),
    (sa.Numeric(38, 0), Decimal(10**37)),
    (pg.BYTEA(), b"\x00\xff"),
    (sa.TIMESTAMP(timezone=True), datetime(2026, 2, 28, 12, 0, 0, 123456, tzinfo=UTC)),
    (sa.Text(), "$1 :name %s \\ ☃"),
    (sa.Boolean(), False),
]


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=[type(kind).__name__ for kind, _ in VALUES])
async def test_a_value_is_read_as_it_was_written(tx, kind, value):
    assert await tx.scalar(sa.select(sa.cast(sa.bindparam("value", type_=kind), kind)), {"value": value}) == value
    assert await tx.scalar(sa.select(sa.cast(sa.literal(value, kind), kind))) == value


async def test_a_parameter_that_is_not_given_is_missed_before_anything_is_sent(tx):
    with pytest.raises(sa.exc.InvalidRequestError, match="name"):
        await tx.execute(sa.select(c.note_id).where(c.note_id == sa.bindparam("name")))
    assert len(await tx.scalars(sa.select(c.note_id))) == 3


async def test_a_statement_that_a_migration_has_outdated_fails_once_and_all_its_connections_are_new(postgres):
    urls = await chassis.create(postgres)
    every = sa.text("SELECT * FROM notes")
    async with chassis.opened(urls, connections_max=2) as database:
        async with database.begin("org_1") as one, database.begin("org_1") as other:
            await one.execute(every)
            await other.execute(every)
        async with chassis.as_superuser(urls) as admin:
            await admin.execute("ALTER TABLE notes ADD COLUMN added text")
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            async with database.begin("org_1") as tx:
                await tx.execute(every)
        async with database.begin("org_1") as one, database.begin("org_1") as other:
            await one.execute(every)
            await other.execute(every)


class Connection:
    closed = False

    def is_closed(self):
        return self.closed

    def terminate(self):
        self.closed = True


async def test_a_pool_closes_what_a_moment_of_much_work_opened_and_keeps_what_is_used(monkeypatch):
    monkeypatch.setattr(pool_of, "_UNUSED_SECONDS", 0.2)
    monkeypatch.setattr(pool_of, "_SWEEP_SECONDS", 0.1)
    opened: list[Connection] = []

    async def connect():
        opened.append(Connection())
        return opened[-1]

    pool = Pool(connect, 3)
    for connection in [await pool.acquire() for _ in range(3)]:
        pool.release(connection)
    for _ in range(50):
        await asyncio.sleep(0.02)
        async with pool.take() as used:
            assert used is opened[-1]
    assert [each.closed for each in opened] == [True, True, False]
    async with pool.take() as used, pool.take() as another:
        assert (used is opened[2], another is opened[3]) == (True, True)
    pool.close()
    assert all(each.closed for each in opened)


async def test_a_pool_lends_first_what_was_given_back_last_and_replaces_what_was_closed():
    opened: list[Connection] = []

    async def connect():
        opened.append(Connection())
        return opened[-1]

    pool = Pool(connect, 3)
    first, second = await pool.acquire(), await pool.acquire()
    pool.release(first)
    pool.release(second)
    async with pool.take() as third:
        assert third is second
        second.terminate()
    async with pool.take() as fourth:
        assert fourth not in (first, second)
        pool.drop_idle()
        assert first.closed
        pool.close()
        assert not fourth.closed
    assert fourth.closed
    assert len(opened) == 3
