"""A peer that accepts and never answers holds nobody for longer than seconds."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from services.chassis.data.database import COMMAND_SECONDS, Database
from services.chassis.data.database_errors import is_away
from services.chassis.data.housekeeping import forget_old_rows
from services.chassis.data.leadership import Leadership
from tests.support import chassis
from tests.support.seals import SEALS
from tests.support.silent import SilentWay, silent_way

SECONDS = 0.5


@pytest.fixture
async def way(urls) -> AsyncIterator[SilentWay]:
    url = make_url(urls.app_url)
    async with silent_way(str(url.host), int(url.port or 0)) as way:
        yield way


@pytest.fixture
async def database(urls, way) -> AsyncIterator[Database]:
    logins = [
        make_url(url).set(port=way.port).render_as_string(hide_password=False)
        for url in (urls.app_url, urls.worker_url)
    ]
    database = Database(*logins, "chassis", SEALS, connections_max=2, command_seconds=SECONDS)
    yield database
    await database.dispose()


async def use_request(database: Database) -> None:
    async with database.begin("org_1") as tx:
        await tx.execute(sa.text("SELECT 1"))


async def use_raw(database: Database) -> None:
    async with database.connect_raw() as connection:
        await connection.execute("SELECT 1")


async def use_leadership(database: Database) -> None:
    await Leadership(database, "relay").hold()


@pytest.mark.parametrize("use", [use_request, use_raw, use_leadership, forget_old_rows, Database.ping])
async def test_a_database_that_falls_silent_frees_whoever_waits_and_serves_again_when_it_speaks(database, way, use):
    await use(database)
    way.answers.clear()
    began = time.monotonic()
    with pytest.raises((TimeoutError, OSError)) as failed:
        await asyncio.wait_for(use(database), 20 * SECONDS)
    assert time.monotonic() - began < 10 * SECONDS
    assert is_away(failed.value)
    way.answers.set()
    await use(database)


async def test_a_transaction_that_is_caught_in_the_middle_is_let_go_and_not_done(database, way, urls):
    async def note() -> None:
        async with database.begin("org_1") as tx:
            await chassis.add_note(tx, "caught")
            way.answers.clear()
            await tx.execute(sa.text("SELECT 1"))

    with pytest.raises(TimeoutError):
        await note()
    way.answers.set()
    async with chassis.as_superuser(urls) as admin:
        await chassis.until(lambda: _is_over(admin))
    assert await chassis.note_ids(database) == []


async def _is_over(admin) -> bool:
    return not await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'")


async def test_no_wait_for_the_database_is_longer_than_seconds():
    assert COMMAND_SECONDS <= 15


async def test_the_system_gives_up_a_connection_whose_server_is_gone(database, urls):
    """What no program notices, a machine that is off, the system does: by what is set on each connection."""
    async with database.connect_raw() as raw, database.begin_for_all() as tx:
        pooled = tx.driver
        for connection in (raw, pooled):
            below = connection._transport.get_extra_info("socket")
            kept = below.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert kept == 1
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert below.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
