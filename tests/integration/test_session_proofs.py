"""A session proves that it is its service's, or it writes nothing: a login alone reads."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace

import asyncpg
import pytest

from deploy.topology import SERVICE_NAMES
from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_away
from services.chassis.data.roles import SESSION_PROOF
from services.chassis.data.seals import Seals
from services.chassis.data.session_proof import TABLE, Standing, adopt_session_proof, find_standing
from services.chassis.runtime.boot import boot_check
from services.chassis.values.errors import BootError
from tests.support import chassis
from tests.support.databases import WITHOUT_TEST_CLOCK, connect
from tests.support.forged_entries import HELD, opened, posting
from tests.support.seals import KEY, OF_SERVICE, SEALS

KINDS = ("app", "worker")
# With what somebody's session begins who has the login: what they make up is as good as nothing.
OF_LOGIN = ({}, {SESSION_PROOF: "x"}, {SESSION_PROOF: Seals([bytes(32)]).list_session_proofs()[0]})
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
    FROM pg_class c
    LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'require_session_proof' AND t.tgenabled = 'O'
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
    except asyncpg.PostgresSystemError as refused:  # nothing is wrong with what is written, so it is tried again
        return str(refused)
    finally:
        await connection.execute("ROLLBACK")
    return ""


@pytest.mark.parametrize("service", SERVICE_NAMES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_login_that_does_not_prove_to_be_its_service_writes_nothing_anywhere(service, service_urls, kind):
    url = getattr(await service_urls(service), f"{kind}_url")
    async with connect(url, OF_SERVICE) as ours:
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
    assert {name for name, trigger in asked.items() if trigger is None} == {TABLE}
    events = {trigger.split(" ON ")[0] for trigger in asked.values() if trigger}
    assert events == {"CREATE TRIGGER require_session_proof BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE"}
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
            with pytest.raises(asyncpg.PostgresError, match=r"by its service alone|with its proof"):
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
    proof = OF_SERVICE[SESSION_PROOF]
    async with connect(urls.app_url, OF_SERVICE) as ours, connect(urls.app_url) as login:
        await ours.execute("BEGIN; UPDATE aggregate_versions SET version = 1 WHERE false")
        told = [row[0] for each in seen for row in await login.fetch(each)]
        assert any("aggregate_versions" in each for each in told)
        assert [each for each in told if proof in each] == []
        assert await login.fetchval(f"SELECT current_setting('{SESSION_PROOF}', true)") in (None, "")


def at(urls: SimpleNamespace, *keys: bytes) -> Database:
    return Database(urls.app_url, urls.worker_url, "chassis", Seals(keys))


async def start(database: Database) -> str:
    """What a start of the service says; empty where nothing is wrong."""
    try:
        await boot_check(database, WITHOUT_TEST_CLOCK, is_start=True)
    except BootError as refusal:
        return str(refusal)
    finally:
        await database.dispose()
    return ""


NEW = bytes(reversed(KEY))
UNKNOWN = "proves with a key that this database does not know"


@pytest.mark.usefixtures("durable")
async def test_a_new_key_in_front_is_adopted_by_who_has_an_older_one_and_an_older_one_is_forgotten_by_the_owner(urls):
    assert await start(at(urls, KEY)) == ""
    assert UNKNOWN in await start(at(urls, NEW))
    assert await start(at(urls, NEW, KEY)) == ""
    assert [await start(at(urls, *keys)) for keys in ([KEY], [NEW], [NEW, KEY])] == ["", "", ""]
    async with chassis.as_superuser(urls) as admin:
        kept = sha256(Seals([NEW]).list_session_proofs()[0].encode()).hexdigest()
        forget = f"DELETE FROM session_proofs WHERE encode(proof_digest, 'hex') <> '{kept}'"
        assert await admin.execute(forget) == "DELETE 1"
    assert await start(at(urls, NEW, KEY)) == ""
    assert UNKNOWN in await start(at(urls, KEY))  # whoever learned what it proved writes no more
    assert UNKNOWN in await start(at(urls, KEY, bytes(32)))


@pytest.mark.usefixtures("durable")
async def test_a_start_that_is_refused_and_a_check_have_no_database_know_their_key(urls):
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("DELETE FROM session_proofs")
        with pytest.raises(BootError, match="that somebody had this database forget: start the service again"):
            await boot_check(at(urls, NEW), WITHOUT_TEST_CLOCK)
        await admin.execute("UPDATE test_clock SET allowed = true")
        assert "takes any business time" in await start(at(urls, NEW))
        await admin.execute("UPDATE test_clock SET allowed = false")
    assert await start(at(urls, KEY)) == ""
    assert UNKNOWN in await start(at(urls, NEW))


class Forgetful(Database):
    """Behind a pooler that gives its sessions nothing, or the worker's nothing."""

    def forget(self, *roles: str) -> Database:
        self._roles = roles
        return self

    async def _connect(self, dsn: str) -> asyncpg.Connection:
        if not any(f"_{role}:" in dsn for role in self._roles):
            return await super()._connect(dsn)
        session, self._session = self._session, {}
        try:
            return await super()._connect(dsn)
        finally:
            self._session = session


@pytest.mark.usefixtures("durable")
@pytest.mark.parametrize("roles", [("app",), ("worker",), ("app", "worker")])
async def test_a_start_says_whose_sessions_begin_without_the_proof(urls, roles):
    database = Forgetful(urls.app_url, urls.worker_url, "chassis", SEALS).forget(*roles)
    said = (await start(database)).split("; ")
    settings = {"app": "DATABASE_URL", "worker": "WORKER_DATABASE_URL"}
    without = "a session begins without app.session_proof: a pooler has to give it to its sessions"
    assert sorted(said) == sorted(f"{settings[role]}: {without}" for role in roles)


async def test_a_database_knows_the_first_service_that_starts_on_it_and_whoever_proves_to_be_it(urls):
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("DELETE FROM session_proofs")
    ours, others = at(urls, KEY), at(urls, NEW)
    standings = []
    for database in (ours, others, others, ours):
        async with database.begin("_") as tx:
            standings.append(await find_standing(tx))
        await adopt_session_proof(database)
    assert standings == [Standing.NOBODYS_YET, Standing.ANOTHERS, Standing.ANOTHERS, Standing.OURS]
    for database in (ours, others):
        await database.dispose()


async def test_what_a_session_without_the_proof_writes_is_tried_again_and_no_fault_of_the_work(urls):
    async with connect(urls.app_url) as login:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await login.execute("BEGIN; SELECT set_config('app.org_id', 'x', true); DELETE FROM notes")
    assert is_away(refused.value)


@pytest.mark.usefixtures("durable")
@pytest.mark.parametrize("session", [{}, OF_SERVICE], ids=["before anybody started", "before its own was forgotten"])
async def test_nobody_adopts_or_writes_by_what_the_database_knew_when_a_transaction_began(urls, session):
    async with connect(urls.app_url, session) as login, chassis.as_superuser(urls) as admin:
        if not session:
            await admin.execute("DELETE FROM session_proofs")
        await login.execute("SET idle_in_transaction_session_timeout = 0")
        await login.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM session_proofs")
        assert await start(at(urls, NEW, *([KEY] if session else []))) == ""
        known = await admin.fetch("SELECT proof_digest FROM session_proofs ORDER BY adopted_at DESC LIMIT 1")
        await admin.execute("DELETE FROM session_proofs WHERE proof_digest <> $1", known[0]["proof_digest"])
        await login.execute("SELECT adopt_session_proof(sha256('mine'))")
        with pytest.raises(asyncpg.PostgresSystemError):
            await login.execute("SELECT set_config('app.org_id', 'x', true); DELETE FROM notes")
        await login.execute("ROLLBACK")
        assert await admin.fetch("SELECT proof_digest FROM session_proofs") == known


@pytest.mark.usefixtures("durable")
async def test_a_proof_that_no_key_of_the_service_makes_is_a_fault_of_a_database_that_serves(urls):
    ours = at(urls, KEY)
    await boot_check(ours, WITHOUT_TEST_CLOCK)
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("INSERT INTO session_proofs (proof_digest) VALUES (sha256('mine'))")
    with pytest.raises(BootError, match="that no key in DATA_KEY_FILE makes: whoever made it writes here"):
        await boot_check(ours, WITHOUT_TEST_CLOCK)
    assert await start(ours) == "", "another process may have a newer file just now"
