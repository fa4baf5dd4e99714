"""What somebody keeps locked, or locks again and again, is told, whoever waits for it."""

from __future__ import annotations

from unittest.mock import AsyncMock

import asyncpg
import pytest
import sqlalchemy as sa
from realco.escrow.v1 import holds_pb2 as pb
from structlog.testing import capture_logs

from services.chassis.calls.auth import acting_as
from services.chassis.data import once as once_module
from services.chassis.data.database import Database
from services.chassis.data.lock_watch import LockWatch
from services.chassis.data.once import answered_before, once
from services.chassis.events.letter_watch import run_letter_watch
from services.chassis.values.errors import Unavailable
from tests.support import chassis
from tests.support.chassis_events import running


@pytest.fixture
async def database(urls):
    async with chassis.opened(urls, connections_max=4) as database:
        yield database


async def _in_a_transaction(database: Database) -> None:
    async with database.begin_for_all() as tx:
        await tx.execute(sa.text("SET LOCAL lock_timeout = '30ms'"))
        await tx.execute(sa.text("SELECT FROM handled_requests"))


async def _with_a_key(database: Database) -> None:
    with acting_as(chassis.ADMIN):
        await once(database, pb.PlaceHoldRequest(idempotency_key="key"), pb.Hold, AsyncMock())


async def _for_an_earlier_answer(database: Database) -> None:
    with acting_as(chassis.ADMIN):
        await answered_before(database, pb.PlaceHoldRequest(idempotency_key="key"), pb.Hold)


@pytest.mark.parametrize("wait", [_in_a_transaction, _with_a_key, _for_an_earlier_answer])
async def test_what_is_waited_for_in_vain_again_and_again_is_an_alarm_though_no_lock_is_kept_for_long(
    database, wait, monkeypatch
):
    alarms = {}
    monkeypatch.setattr(once_module, "_IN_FLIGHT_WAIT_MS", 30)
    monkeypatch.setitem(database._session, "lock_timeout", "30")  # of connections that are yet to be opened
    watch = LockWatch(database, alarms, patience_seconds=0.05)
    for number in range(3):
        await watch.look()
        assert alarms == {}, f"{number} are anybody's"
        async with database.begin_for_all() as tx:
            await tx.execute(sa.text("LOCK TABLE handled_requests IN ACCESS EXCLUSIVE MODE"))
            with pytest.raises((asyncpg.PostgresError, Unavailable)):
                await wait(database)
    await watch.look()
    assert alarms == {
        "locks": "somebody keeps locked or open: what this service has waited for in vain again and again"
    }


@pytest.mark.parametrize(
    ("lock", "kept"),
    [
        ("LOCK TABLE handled_requests IN SHARE MODE", "the table handled_requests"),
        ("SELECT pg_advisory_xact_lock(hashtextextended('stops|org_1|ann', 0))", "the name "),
        ("SELECT FROM leaders FOR UPDATE", "rows, in transaction "),
    ],
    ids=["a table", "a name", "rows"],
)
async def test_what_a_login_keeps_locked_is_an_alarm_as_long_as_it_is(database, lock, kept):
    alarms = {}
    watch = LockWatch(database, alarms, patience_seconds=0)
    async with database.begin_for_all() as tx:
        await tx.execute(sa.text("INSERT INTO leaders VALUES ('work', gen_random_uuid(), now())"))
    with capture_logs() as logged:
        async with database.begin_for_all() as tx:
            await tx.execute(sa.text(lock))
            await watch.look()
            assert alarms["locks"].startswith(f"somebody keeps locked or open: {kept}")
        await watch.look()
    assert (alarms, [line["event"] for line in logged]) == ({}, ["locks_kept", "locks_released"])
    async with database.begin_for_all() as tx:
        await tx.execute(sa.text("LOCK TABLE handled_requests IN SHARE MODE"))
        await LockWatch(database, alarms).look()
    assert alarms == {}, "a moment is nobody's trouble"


async def test_a_transaction_that_somebody_leaves_open_is_an_alarm_as_long_as_it_is(database):
    """Whatever is changed meanwhile stays, and each read of it has more to pass over."""
    alarms = {}
    watch = LockWatch(database, alarms, open_seconds_max=0)
    async with database.begin_for_all() as tx:
        await tx.execute(sa.text("SELECT FROM leaders"))
        await watch.look()
        told = "somebody keeps locked or open: open, transaction "
        assert alarms["locks"].startswith(told)
        await LockWatch(database, alarms).look()
        assert alarms == {}, "some minutes are nobody's trouble"
    await watch.look()
    assert alarms == {}


async def test_that_the_cluster_has_no_room_for_locks_any_more_is_an_alarm_as_long_as_it_is(database, monkeypatch):
    """Whoever keeps thousands of names within one transaction keeps everybody from every lock, this watch, too."""
    alarms = {}
    watch = LockWatch(database, alarms)
    with capture_logs() as logged:
        with monkeypatch.context() as patched:
            used_up = asyncpg.OutOfMemoryError("out of shared memory")
            patched.setattr(database, "send_for_all", AsyncMock(side_effect=used_up))
            await watch.look()
        assert alarms["locks"].startswith("PostgreSQL has no room for any more locks")
        await watch.look()
    assert (alarms, [line["event"] for line in logged]) == ({}, ["locks_kept", "locks_released"])


async def test_that_nobody_can_count_the_dead_letters_is_an_alarm_until_somebody_can(database, urls, monkeypatch):
    alarms = {}
    monkeypatch.setitem(database._session, "lock_timeout", "30")  # of connections that are yet to be opened
    monkeypatch.setattr("services.chassis.process.loops.ALARM_SECONDS", 0.1)
    async with running(lambda stop: run_letter_watch(database, [], stop, alarms, look_seconds=0.05)):
        async with chassis.as_superuser(urls) as admin, admin.transaction():
            await admin.execute("LOCK TABLE dead_letters IN ACCESS EXCLUSIVE MODE")
            await chassis.until(lambda: "the count of dead letters" in alarms)
        await chassis.until(lambda: not alarms)
