"""Who writes in a service's database proves to be the service: a login alone reads."""

from __future__ import annotations

from types import SimpleNamespace

import asyncpg
import pytest

from deploy.topology import SERVICE_NAMES
from services.chassis.data.database import Database
from services.chassis.data.roles import WRITER_PROOF
from services.chassis.data.seals import Seals
from services.chassis.data.writer import WRITER
from services.chassis.runtime.boot import boot_check
from services.chassis.values.errors import BootError
from tests.support import chassis
from tests.support.databases import WITHOUT_TEST_CLOCK, connect
from tests.support.forged_entries import HELD, opened, posting
from tests.support.seals import KEY, OF_WRITER, SEALS

KINDS = ("app", "worker")
# With what somebody's session begins who has the login: what they make up is as good as nothing.
OF_LOGIN = ({}, {WRITER_PROOF: "x"}, {WRITER_PROOF: Seals([bytes(32)]).prove_writer()})
_RIGHTS = """
    SELECT c.relname AS name,
           has_table_privilege(c.oid, 'DELETE') AS removes,
           (SELECT min(a.attname) FILTER (WHERE has_column_privilege(c.oid, a.attnum, 'INSERT')) FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attidentity = '' AND NOT a.attisdropped) AS added,
           (SELECT min(a.attname) FILTER (WHERE has_column_privilege(c.oid, a.attnum, 'UPDATE')) FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attidentity = '' AND NOT a.attisdropped) AS changed
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
"""

_TRIGGERS = """
    SELECT c.relname AS name, pg_get_triggerdef(t.oid) AS trigger
    FROM pg_class c LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'require_writer' AND t.tgenabled = 'O'
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
"""


def list_writes(row: asyncpg.Record) -> list[str]:
    """One statement for each right of the login to write in a table; none of them changes a row."""
    found = []
    if row["added"]:
        found.append(f"INSERT INTO {row['name']} ({row['added']}) SELECT NULL WHERE false")
    if row["changed"]:
        found.append(f"UPDATE {row['name']} SET {row['changed']} = NULL WHERE false")
    if row["removes"]:
        found.append(f"DELETE FROM {row['name']} WHERE false")
    return found


async def attempt(connection: asyncpg.Connection, statement: str) -> str:
    """What PostgreSQL refuses it with; empty if it goes through."""
    try:
        await connection.execute(f"BEGIN; SELECT set_config('app.org_id', 'org_1', true); {statement}")
    except asyncpg.InsufficientPrivilegeError as refused:
        return str(refused)
    finally:
        await connection.execute("ROLLBACK")
    return ""


@pytest.mark.parametrize("service", SERVICE_NAMES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_login_that_does_not_prove_to_be_its_service_writes_nothing_anywhere(service, service_urls, kind):
    url = getattr(await service_urls(service), f"{kind}_url")
    async with connect(url, OF_WRITER) as ours:
        writes = [each for row in await ours.fetch(_RIGHTS) for each in list_writes(row)]
        assert [each for each in writes if await attempt(ours, each)] == []
    assert len(writes) > 10
    for session in OF_LOGIN:
        async with connect(url, session) as login:
            answered = {each: await attempt(login, each) for each in writes}
            assert {each: told for each, told in answered.items() if "by its service alone" not in told} == {}


@pytest.mark.parametrize("service", SERVICE_NAMES)
async def test_every_table_asks_for_the_proof_whoever_writes_it(service, service_urls):
    """What a function writes for a login that may not, too."""
    async with connect((await service_urls(service)).owner_url) as owner:
        asked = {row["name"]: row["trigger"] for row in await owner.fetch(_TRIGGERS)}
    assert {name for name, trigger in asked.items() if trigger is None} == {WRITER}
    events = {trigger.split(" ON ")[0] for trigger in asked.values() if trigger}
    assert events == {"CREATE TRIGGER require_writer BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE"}
    assert len(asked) > 15


async def test_whoever_has_the_login_alone_books_holds_and_ends_nothing_by_the_functions_of_the_book(escrow):
    account = await opened(escrow)
    held = await escrow.hold(account, HELD, 10)
    hold = f"now(), '{escrow.org_id}', '{account}', '{held.hold_id}'"
    made = hold.replace(held.hold_id, "hold_x") + ", 'SUBSCRIPTION', 'inv-001', 5, 'USD', 'MANUAL', 'x', NULL, NULL"
    calls = (
        f"SELECT * FROM {posting([account])}".replace("org_1", escrow.org_id),
        f"SELECT * FROM place_hold({made}, 'x', NULL, NULL, sha256('x'), 'x')",
        f"SELECT * FROM resolve_hold({hold}, 'RELEASED', 0, false, 'x', 'x')",
        f"SELECT * FROM let_hold_expire('{escrow.org_id}', '{account}', '{held.hold_id}', now(), 'x')",
        f"SELECT give_up_posting('{escrow.org_id}', '{account}', gen_random_uuid(), 'x', 'x')",
    )
    async with connect(escrow.urls.app_url, {"app.org_id": escrow.org_id}) as login:
        for call in calls:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"by its service alone|with its proof"):
                await login.execute(call)
    assert await escrow.held(account) == {HELD: 10}
    assert len(await escrow.journal()) == 1


async def test_what_proves_it_is_seen_in_no_other_session_of_the_login(service_urls):
    urls = await service_urls("escrow")
    seen = (
        "SELECT row_to_json(a)::text FROM pg_stat_activity a",
        "SELECT row_to_json(s)::text FROM pg_settings s",
        "SELECT row_to_json(p)::text FROM pg_prepared_statements p",
        "SELECT row_to_json(s)::text FROM pg_db_role_setting s",
    )
    proof = OF_WRITER[WRITER_PROOF]
    async with connect(urls.app_url, OF_WRITER) as ours, connect(urls.app_url) as login:
        await ours.execute("BEGIN; UPDATE aggregate_versions SET version = 1 WHERE false")
        told = [row[0] for each in seen for row in await login.fetch(each)]
        assert any("aggregate_versions" in each for each in told)
        assert [each for each in told if proof in each] == []
        assert await login.fetchval(f"SELECT current_setting('{WRITER_PROOF}', true)") in (None, "")


def at(urls: SimpleNamespace, *keys: bytes) -> Database:
    return Database(urls.app_url, urls.worker_url, "chassis", Seals(keys))


@pytest.mark.usefixtures("durable")
async def test_a_key_that_is_put_before_the_others_still_writes_and_another_service_s_does_not_start(urls):
    async with chassis.as_superuser(urls) as admin:
        assert await admin.fetchval("SELECT count(*) FROM writer") == 1
    databases = at(urls, bytes(32), KEY), at(urls, KEY, bytes(32)), at(urls, bytes(32))
    await boot_check(databases[0], WITHOUT_TEST_CLOCK)
    for database in databases[1:]:
        with pytest.raises(BootError, match="DATA_KEY_FILE: its last key is not the one"):
            await boot_check(database, WITHOUT_TEST_CLOCK)
    for database in databases:
        await database.dispose()


async def test_a_database_takes_the_first_service_that_starts_on_it_and_no_other(urls):
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("DELETE FROM writer")
    another = {WRITER_PROOF: Seals([bytes(32)]).prove_writer()}
    for session, is_taken in (({}, False), (OF_WRITER, True), (another, False), ({}, False), (OF_WRITER, True)):
        async with connect(urls.app_url, session) as connection:
            assert await connection.fetchval("SELECT adopt_writer()") is is_taken
    assert SEALS.prove_writer() == OF_WRITER[WRITER_PROOF]
