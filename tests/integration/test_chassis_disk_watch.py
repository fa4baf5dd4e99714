"""What a login of PostgreSQL writes to the disk without the proof of a session is bounded, or told, or both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import asyncpg
import pytest
from structlog.testing import capture_logs

from services.chassis.data.disk_watch import DiskWatch
from services.chassis.data.lock_watch import watch_locks
from services.chassis.data.roles import ROLE_SETTINGS
from services.chassis.data.urls import dsn_of
from tests.support import chassis

# More than a catalogue of PostgreSQL has by itself.
BYTES_MAX = 8_000_000
KEPT = (
    "BEGIN; DECLARE kept CURSOR WITH HOLD FOR"
    " SELECT repeat(md5(number::text), 250) FROM generate_series(1, {rows}) number; COMMIT"
)
# 2,000 messages of 7,680 bytes, more than thirty times what the queue takes.
SENT = "SELECT count(pg_notify('untaken', repeat(md5(number::text), 240))) FROM generate_series(1, 2000) number"


@pytest.fixture
async def database(urls):
    async with chassis.opened(urls, connections_max=4) as database:
        yield database


@pytest.fixture(params=["app", "worker"])
async def login(request, urls) -> AsyncIterator[asyncpg.Connection]:
    """A session of whoever has a password of a service, and nothing that its sessions prove."""
    connection = await asyncpg.connect(dsn_of(getattr(urls, f"{request.param}_url")))
    yield connection
    await connection.close()


async def test_what_a_login_keeps_in_temporary_files_is_an_alarm_as_long_as_it_is(database, login):
    """A cursor lives as long as its session, which is idle, in no transaction, and locks nothing."""
    role = await login.fetchval("SELECT current_user")
    alarms = {}
    watch = DiskWatch(database, alarms, patience_seconds=0, bytes_max=BYTES_MAX)
    await watch.look()
    assert alarms == {}
    with capture_logs() as logged:
        await login.execute(KEPT.format(rows=1_500))
        await watch.look()
        assert alarms["disk"].startswith(f"somebody fills PostgreSQL's disk: temporary files of {role} (1")
        await DiskWatch(database, unhurried := {}, bytes_max=BYTES_MAX).look()
        assert unhurried == {}, "a moment is nobody's trouble"
        await watch.look()
        await login.execute("CLOSE kept")
        await watch.look()
    assert (alarms, [line["event"] for line in logged]) == ({}, ["disk_filled", "disk_freed"])


async def test_a_login_keeps_few_megabytes_a_session_in_temporary_files(login):
    with pytest.raises(asyncpg.ConfigurationLimitExceededError, match="temp_file_limit"):
        await login.execute(KEPT.format(rows=32_000))
    assert int(ROLE_SETTINGS["temp_file_limit"]) <= 16 * 1024


async def test_messages_that_a_login_takes_from_nobody_end_at_half_a_megabyte_and_are_an_alarm(database, urls):
    alarms = {}
    watch = DiskWatch(database, alarms, patience_seconds=0, bytes_max=BYTES_MAX)
    async with AsyncExitStack() as stack:
        listening, sending = [await asyncpg.connect(dsn_of(urls.app_url)) for _ in range(2)]
        stack.push_async_callback(sending.close)
        stack.push_async_callback(listening.close)
        await listening.execute("LISTEN untaken")
        await listening.execute("BEGIN; SELECT 1")
        with pytest.raises(asyncpg.ProgramLimitExceededError, match="NOTIFY queue"):
            await sending.execute(SENT)
        await watch.look()
        assert alarms["disk"].startswith("somebody fills PostgreSQL's disk: messages (NOTIFY) that somebody does not")
        assert "(0.5 MB)" in alarms["disk"]
    await watch.look()
    assert alarms == {}


async def test_that_messages_may_take_gigabytes_is_an_alarm(database):
    alarms = {}
    await DiskWatch(database, alarms, patience_seconds=0, bytes_max=500_000).look()
    assert "what max_notify_queue_pages lets messages (NOTIFY) take (0.5 MB)" in alarms["disk"]


async def test_defaults_that_a_login_gives_its_role_again_and_again_are_an_alarm_once_they_fill_the_disk(
    database, urls, login
):
    """Whatever it gave before stays until PostgreSQL cleans up, and that waits for each transaction that is open."""
    role = await login.fetchval("SELECT current_user")
    random = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 50000)"
    alarms = {}
    watch = DiskWatch(database, alarms, patience_seconds=0, bytes_max=BYTES_MAX)
    async with chassis.as_superuser(urls) as admin:
        try:
            for _ in range(10):
                await login.execute(f"ALTER ROLE {role} SET search_path = '{await login.fetchval(random)}'")
            await watch.look()
            assert "the catalogue pg_db_role_setting (" in alarms["disk"]
        finally:
            await admin.execute(f"ALTER ROLE {role} RESET search_path")
            await admin.execute("VACUUM FULL pg_db_role_setting")
    await watch.look()
    assert alarms == {}


async def test_the_disk_is_looked_at_by_a_job_that_every_service_runs(database, monkeypatch):
    monkeypatch.setattr(
        "services.chassis.data.lock_watch.DiskWatch", partial(DiskWatch, patience_seconds=0, bytes_max=1_000_000)
    )
    alarms = {}
    await watch_locks(database, alarms).run()
    assert "the catalogue pg_proc (" in alarms["disk"]
