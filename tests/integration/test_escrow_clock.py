"""Nobody with escrow's login says what time it is: the book goes by its database's, but in a local instance."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import asyncpg
import pytest

from services.chassis.calls.auth import Principal
from services.chassis.data import migrate
from services.chassis.data.database_errors import is_transient
from services.chassis.data.urls import dsn_of
from services.chassis.runtime.boot import boot_check
from services.chassis.values.errors import BootError
from tests.support.databases import WITH_TEST_CLOCK, WITHOUT_TEST_CLOCK
from tests.support.escrow import Escrow
from tests.support.forged_entries import posting
from tests.support.seals import OF_SERVICE, SEALS

# With a proof of the service, for which a hold ends.
CALLS = {
    "post": ("SELECT coalesce(verdict[1], 'posted') FROM {posting}", "posted"),
    "place": (
        (
            "SELECT verdict FROM place_hold({time}, 'org_1', '{account}', 'hold_x', 'SUBSCRIPTION', 'inv-001', 1,"
            " 'USD', 'MANUAL', '', NULL, NULL, 'x', NULL, '{{}}', 'x', NULL)"
        ),
        "done",
    ),
    "resolve": (
        "SELECT verdict FROM resolve_hold({time}, 'org_1', '{account}', '{hold}', 'RELEASED', 0, false, 'x', {proof})",
        "done",
    ),
}
LIES = (
    *("NULL", "'infinity'", "'-infinity'", "'2999-01-01T00:00Z'", "'1999-01-01T00:00Z'"),
    *("clock_timestamp() + interval '301 s'", "clock_timestamp() - interval '301 s'"),
)
TRUE = ("clock_timestamp() + interval '290 s'", "clock_timestamp()", "clock_timestamp() - interval '290 s'")
NEVER = ("NULL", "'infinity'", "'-infinity'")


@pytest.fixture
async def urls(service_urls) -> SimpleNamespace:
    made: SimpleNamespace = await service_urls("escrow")
    return made


@pytest.fixture
async def escrow(urls) -> AsyncIterator[Escrow]:
    async with Escrow(urls) as running:
        running.org_id, running.admin = "org_1", Principal("admin-1", "admin", "org_1")
        yield running


async def ask(escrow: Escrow, *times: str) -> dict[tuple[str, str], str]:
    """What the login is answered to each call with each time: a verdict, or the state of the refusal."""
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("subscription:inv-001", -100))
    hold = (await escrow.hold(account, "subscription:inv-001", 60)).hold_id
    place = ("holds", "org_1", account, hold)
    values = {
        "account": account,
        "hold": hold,
        "proof": f"'\\x{SEALS.prove(SEALS.digest_proof(*place), *place).hex()}'",
    }
    login, answers = await asyncpg.connect(dsn_of(escrow.urls.app_url), server_settings=OF_SERVICE), {}
    for name, (call, _) in CALLS.items():
        for time in times:
            posted = posting([account]).replace("now()", time, 1)
            transaction = login.transaction()
            await transaction.start()
            await login.execute("SELECT set_config('app.org_id', 'org_1', true)")
            try:
                answers[name, time] = await login.fetchval(call.format(time=time, posting=posted, **values))
            except asyncpg.PostgresError as refused:
                answers[name, time] = str(refused.sqlstate)
            await transaction.rollback()
    await login.close()
    return answers


async def test_the_book_takes_no_time_but_its_own_from_a_login(escrow, urls):
    await migrate.upgrade(urls.owner_url, "escrow")
    escrow.clock.set(datetime.now(UTC))
    wanted = {(name, time): "58000" for name in CALLS for time in LIES}
    assert await ask(escrow, *LIES, *TRUE) == wanted | {
        (name, time): verdict for name, (_, verdict) in CALLS.items() for time in TRUE
    }


async def test_a_database_that_takes_the_test_clock_takes_any_time_that_is_one(escrow):
    wanted = {(name, time): verdict for name, (_, verdict) in CALLS.items() for time in (*LIES, *TRUE)}
    assert await ask(escrow, *LIES, *TRUE) == wanted | {(name, time): "58000" for name in CALLS for time in NEVER}


@pytest.mark.usefixtures("durable")
async def test_the_migrator_says_whether_a_database_takes_the_test_clock_and_a_service_starts_on_its_like(
    escrow, urls, tmp_path
):
    next_year = tmp_path / "clock.json"
    next_year.write_text(json.dumps({"offset_seconds": 365 * 86_400}))
    await migrate.upgrade(urls.owner_url, "escrow", test_clock=True)
    await boot_check(escrow.database, WITH_TEST_CLOCK)
    await boot_check(escrow.database, SimpleNamespace(clock_file=next_year))
    with pytest.raises(BootError, match="takes any business time: run the migrations without CLOCK_FILE"):
        await boot_check(escrow.database, WITHOUT_TEST_CLOCK)
    await migrate.upgrade(urls.owner_url, "escrow")
    await boot_check(escrow.database, WITHOUT_TEST_CLOCK)
    with pytest.raises(BootError, match="31536000 seconds from the time of the database"):
        await boot_check(escrow.database, SimpleNamespace(clock_file=next_year))


async def test_a_service_with_a_wrong_clock_books_nothing_and_may_be_asked_again(escrow, urls):
    account = await escrow.open()
    await migrate.upgrade(urls.owner_url, "escrow")
    escrow.clock.set(datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(asyncpg.PostgresError) as refused:
        await escrow.post(account, ("cash", 100), ("subscription:inv-001", -100))
    assert is_transient(refused.value)
    escrow.clock.set(datetime.now(UTC))
    await escrow.post(account, ("cash", 100), ("subscription:inv-001", -100))
    assert await escrow.posted(account) == {"cash": 100, "subscription:inv-001": 100}
