"""What each role can do in each service's database is what is stated, and what must not be done is refused."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from deploy.local.postgres_binaries import find_pg_bin
from deploy.topology import SERVICE_NAMES, database_of
from services.chassis.approvals.jobs import APPROVAL_WORK
from services.chassis.data.migrate import drift
from services.chassis.data.seals import is_covered, list_sealed_tables
from services.chassis.data.urls import dsn_of
from tests.support.illegal_sql import everywhere
from tests.support.seals import OF_SERVICE

SIGNED_IN = ("app", "worker")


@pytest.fixture(params=SERVICE_NAMES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def urls(service, service_urls) -> SimpleNamespace:
    made: SimpleNamespace = await service_urls(service)
    return made


@pytest.fixture
async def admin(urls) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn_of(urls.admin_url))
    yield connection
    await connection.close()


def illegal_sql_of(service: str) -> Any:
    return importlib.import_module(f"tests.support.illegal_sql.{service}")


async def attempt(connection: asyncpg.Connection, statement: str) -> str:
    """The state PostgreSQL refuses the statement with, in a transaction of org_1; empty if it goes through."""
    alone = statement.startswith(("CREATE DATABASE", "ALTER SYSTEM"))  # no transaction may hold them
    try:
        if not alone:
            await connection.execute("BEGIN; SELECT set_config('app.org_id', 'org_1', true)")
        await connection.execute(statement)
    except asyncpg.PostgresError as refused:
        return str(refused.sqlstate)
    finally:
        await connection.execute("ROLLBACK")
    return ""


def statements(service: str, kind: str) -> dict[str, tuple[str, str]]:
    """What the role may not do, each with the code of the refusal."""
    refused = illegal_sql_of(service)
    known = database_of(service)
    names = {"owner": known.owner_role, "role": getattr(known, f"{kind}_role"), "database": known.name}
    names["other"] = known.worker_role if kind == "app" else known.app_role
    denied = everywhere.EVERYWHERE | (everywhere.OF_REQUESTS if kind == "app" else {})
    listed = {name: (text.format(**names), "42501") for name, text in denied.items()}
    for table, columns in refused.FIXED.items():
        for column in columns.split():
            listed[f"{table}.{column} changed"] = (f"UPDATE {table} SET {column} = {column}", "42501")
        if table not in everywhere.REMOVED_FROM:
            listed[f"{table} forgotten"] = (f"DELETE FROM {table}", "42501")
        listed[f"{table} truncated"] = (f"TRUNCATE {table} CASCADE", "42501")
    return listed | refused.RULES


@pytest.mark.parametrize("kind", SIGNED_IN)
async def test_what_must_not_be_done_is_refused(service, urls, admin, kind):
    await admin.execute(
        "SELECT set_config('app.org_id', 'org_1', false);"
        "INSERT INTO outbox (org_id, event_id, event_type, aggregate_id, aggregate_version, scope, payload,"
        " occurred_at) VALUES ('org_1', gen_random_uuid(), 'x', 'x', 1, '_', 'x', now());"
        "INSERT INTO handled_requests (org_id, principal, idempotency_key, fingerprint, status)"
        " VALUES ('org_1', 'x', 'x', 'x', 'running');"
        "INSERT INTO handled_events (org_id, consumer, event_id, incarnation)"
        " VALUES ('org_1', 'x', gen_random_uuid(), '')"
    )
    for row in illegal_sql_of(service).ROWS:
        await admin.execute(row)
    listed = statements(service, kind)
    connection = await asyncpg.connect(dsn_of(getattr(urls, f"{kind}_url")), server_settings=OF_SERVICE)
    answered = {name: await attempt(connection, text) for name, (text, _) in listed.items()}
    await connection.close()
    assert {name: state for name, state in answered.items() if state != listed[name][1]} == {}
    assert len(listed) > 60


# Written past the triggers: no event has them.
NUMBERS = (
    "SET session_replication_role = replica; INSERT INTO aggregate_versions VALUES ('org_1', 'x', 1), ('org_2', 'x', 1)"
)
_COLUMNS = """
    SELECT c.relname AS "table", a.attname AS "column", format_type(a.atttypid, a.atttypmod) AS type
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
"""


# Another value of a column, by its type.
_ANOTHER = {
    "text": "coalesce({0}, '') || 'x'",
    "bigint": "coalesce({0}, 0) + 1",
    "integer": "coalesce({0}, 0) + 1",
    "boolean": "NOT coalesce({0}, false)",
    "timestamp with time zone": "coalesce({0}, now()) - interval '1 hour'",
    "date": "coalesce({0}, '2026-01-01') - 1",
    "bytea": "'another'",
}


@pytest.mark.parametrize("kind", SIGNED_IN)
async def test_no_login_alters_what_a_seal_covers_without_a_version_that_it_cannot_take_back(
    service, urls, admin, kind
):
    """Else it alters a row for the moment in which somebody looks, and puts it back with its seal."""
    await admin.execute("SELECT set_config('app.org_id', 'org_1', false)")
    for row in illegal_sql_of(service).ROWS:
        await admin.execute(row)
    columns = {(row["table"], row["column"]): row["type"] for row in await admin.fetch(_COLUMNS)}
    guards = {
        row["table"]: row["guard"]
        for row in await admin.fetch(
            'SELECT tgrelid::regclass::text AS "table", pg_get_triggerdef(oid) AS guard FROM pg_trigger'
            " WHERE tgname = 'refuse_old_state' AND tgenabled = 'O'"
        )
    }
    rights = importlib.import_module(f"services.{service}.rights").RIGHTS
    metadata = importlib.import_module(f"services.{service}.tables").metadata
    versioned = [table for table in list_sealed_tables(metadata) if "version" in table.c]
    assert {table.name for table in versioned} == guards.keys()
    connection = await asyncpg.connect(dsn_of(getattr(urls, f"{kind}_url")), server_settings=OF_SERVICE)
    taken, tried = [], 0
    for table in versioned:
        here = rights[table.name]
        granted = [name for name in here.list_changing() if name != "version" and is_covered(table, name)]
        assert [name for name in granted if not re.search(rf"new\.{name}\b", guards[table.name])] == []
        filled = await admin.fetchval(f"SELECT EXISTS (SELECT FROM {table.name})")
        for name in granted if filled else ():
            if (another := _ANOTHER.get(columns[table.name, name])) and name not in here.onward:
                statement = f"UPDATE {table.name} SET {name} = {another.format(name)}"
                tried += 1
                taken += [] if await attempt(connection, statement) else [statement]
    await connection.close()
    assert taken == []
    assert tried > 5


@pytest.mark.parametrize("kind", SIGNED_IN)
async def test_no_login_lets_a_lease_leap_to_where_none_can_be_taken(service, urls, admin, kind):
    leased = await admin.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tries'"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'"
    )
    await admin.execute("SELECT set_config('app.org_id', 'org_1', false)")
    for row in illegal_sql_of(service).ROWS:
        await admin.execute(row)
    guards = await admin.fetch("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'refuse_begun'")
    assert {row["relname"] for row in leased} == {row["tgrelid"] for row in guards} >= {"approvals"}
    connection = await asyncpg.connect(dsn_of(getattr(urls, f"{kind}_url")), server_settings=OF_SERVICE)
    leaps = (
        "tries = 2147483647",
        "tries = -1",
        "epoch = 9223372036854775807",
        "epoch = epoch + 2",
        "epoch = epoch - 1",
    )
    taken = [
        statement
        for row in leased
        for leap in leaps
        if await admin.fetchval(f"SELECT EXISTS (SELECT FROM {row['relname']})")
        and not await attempt(connection, statement := f"UPDATE {row['relname']} SET {leap}")
    ]
    await connection.close()
    assert taken == []


@pytest.mark.parametrize("org_id", ["*", "", "%", "org_2' OR 'x' = 'x", "org_1,org_2", "org_2 "])
async def test_a_request_reaches_no_organization_but_the_one_it_names_whatever_it_sets(urls, admin, org_id):
    await admin.execute(NUMBERS)
    connection = await asyncpg.connect(dsn_of(urls.app_url), server_settings=OF_SERVICE)
    await connection.execute("SELECT set_config('app.org_id', $1, false)", org_id)
    assert await connection.fetch("SELECT * FROM aggregate_versions") == []
    assert await connection.execute("UPDATE aggregate_versions SET version = 9") == "UPDATE 0"
    await connection.execute("SELECT set_config('app.org_id', 'org_1', false)")
    assert await connection.fetchval("SELECT string_agg(org_id, ' ') FROM aggregate_versions") == "org_1"
    await connection.close()


async def test_the_worker_sees_every_organization_and_needs_to_name_none(urls, admin):
    await admin.execute(NUMBERS)
    connection = await asyncpg.connect(dsn_of(urls.worker_url), server_settings=OF_SERVICE)
    assert await connection.fetchval("SELECT count(*) FROM aggregate_versions") == 2
    await connection.close()


async def test_the_worker_finds_what_is_due_and_what_comes_after_a_page(service, service_database):
    database, now = await service_database(service), datetime.now(UTC)
    for due in (*importlib.import_module(f"services.{service}.jobs").WORK, *APPROVAL_WORK):
        values = {"now": now, "count_max": 1, "after_moment": now}
        values |= {f"after_{column.name}": "" for column in due.table.primary_key.columns}
        async with database.begin_for_all() as tx:
            for statement in (due.first_page, due.next_page, due.count):
                await tx.execute(statement, values)


async def test_the_rights_of_each_role_are_those_that_are_stated(service, urls):
    assert await drift(urls.owner_url, service) == []


# Each with the lines that say so; none of them hides another.
HARMS: list[tuple[str, list[str]]] = [
    ("GRANT UPDATE (payload) ON outbox TO PUBLIC", ["app can UPDATE outbox.payload", "worker can UPDATE outbox."]),
    ("GRANT TRUNCATE ON outbox TO {app}", ["app can TRUNCATE outbox"]),
    ("REVOKE SELECT ON incarnation FROM {app}", ["app cannot SELECT incarnation.incarnation"]),
    ("GRANT EXECUTE ON FUNCTION realco_refuse() TO PUBLIC", ["worker can EXECUTE realco_refuse()"]),
    ("GRANT CREATE ON SCHEMA public TO {worker}", ["worker can CREATE schema public"]),
    ("GRANT TEMPORARY ON DATABASE {name} TO PUBLIC", ["app can TEMPORARY the database"]),
    ("CREATE TABLE side_book (id int)", ["table side_book is not in rights.py"]),
    (
        (
            "CREATE OR REPLACE FUNCTION realco_check_time(p_now timestamptz) RETURNS void LANGUAGE sql AS 'SELECT';"
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP TRIGGER refuse_edits ON statements;"
            "ALTER TABLE outbox DISABLE TRIGGER refuse_early; ALTER POLICY organization ON outbox USING (true);"
            "ALTER TABLE outbox NO FORCE ROW LEVEL SECURITY"
        ),
        [
            "function realco_check_time(p_now timestamp with time zone) is not as the migrations make it",
            "function f() is in no migration",
            "trigger refuse_edits of statements is not in the database",
            "trigger refuse_early of outbox is not as the migrations make it",
            "policy organization of outbox is not as the migrations make it",
            "row security of outbox is not as the migrations make it",
        ],
    ),
    (
        (
            "CREATE PROCEDURE tidy(q text) LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN EXECUTE q; END';"
            "CREATE AGGREGATE most(int) (sfunc = int4larger, stype = int); CREATE VIEW told AS SELECT * FROM outbox;"
            "CREATE RULE kept AS ON DELETE TO outbox DO INSTEAD NOTHING; ALTER TABLE dead_letters SET UNLOGGED;"
            "CREATE SCHEMA aside; CREATE PUBLICATION told FOR TABLE outbox; CREATE DOMAIN days AS int;"
            "CREATE CAST (text AS boolean) WITH INOUT; CREATE EXTENSION citext SCHEMA aside"
        ),
        [
            "procedure tidy(IN q text) is in no migration",
            "function most(integer) is in no migration",
            "view told is in no migration",
            "rule kept of outbox is in no migration",
            "table dead_letters UNLOGGED",
            "schema aside is in no migration",
            "publication told is in no migration",
            "type days is in no migration",
            "cast (pg_catalog.text AS boolean) is in no migration",
            "extension citext is in no migration",
        ],
    ),
]


async def test_a_right_or_a_guard_that_is_not_as_stated_is_reported(service_urls):
    urls = await service_urls("compliance")
    known = database_of("compliance")
    admin = await asyncpg.connect(dsn_of(urls.admin_url))
    for harm, _ in HARMS:
        await admin.execute(harm.format(app=known.app_role, worker=known.worker_role, name=urls.name))
    await admin.close()
    found = "\n".join(await drift(urls.owner_url, "compliance"))
    assert [line for _, said in HARMS for line in said if line not in found] == []


def dump_and_restore(url: str) -> None:
    dump = subprocess.run([find_pg_bin() / "pg_dump", "-Fc", "--schema-only", url], check=True, capture_output=True)
    restore = [find_pg_bin() / "pg_restore", "--clean", "--if-exists", "--exit-on-error", "-d", url]
    subprocess.run(restore, input=dump.stdout, check=True, capture_output=True)


async def test_of_a_database_that_was_dumped_and_restored_only_what_somebody_changed_is_named(urls, service, admin):
    """PostgreSQL prints a rule otherwise once it has read what it printed: a dump is what it printed."""
    await asyncio.to_thread(dump_and_restore, dsn_of(urls.admin_url))
    await admin.execute(
        "CREATE OR REPLACE TRIGGER refuse_leap BEFORE UPDATE ON approvals FOR EACH ROW"
        " WHEN (NEW.epoch NOT BETWEEN OLD.epoch AND OLD.epoch + 2) EXECUTE FUNCTION realco_refuse()"
    )
    assert await drift(urls.owner_url, service) == ["trigger refuse_leap of approvals is not as the migrations make it"]


async def test_whose_rows_a_role_sees_is_the_same_in_every_table_of_organizations(service, urls, admin):
    tables = await admin.fetch(
        "SELECT c.oid, c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id' WHERE c.relkind IN ('r', 'p')"
    )
    assert {row["relname"] for row in tables if not row["forced"]} == set()
    known = database_of(service)
    mine = "(org_id = ( SELECT current_setting('app.org_id'::text) AS current_setting))"
    seen = f"(( SELECT (SESSION_USER = '{known.worker_role}'::name)) OR {mine})"
    policies = await admin.fetch(
        "SELECT tablename, policyname, permissive, roles, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2"
    )
    wanted = {(row["relname"], "organization", "PERMISSIVE", ("public",), "ALL", seen, seen) for row in tables}
    found = {tuple(tuple(value) if isinstance(value, list) else value for value in row) for row in policies}
    assert found == wanted
    stated = importlib.import_module(f"services.{service}.rights").RIGHTS
    assert {row["relname"] for row in tables} <= stated.keys()


@pytest.mark.parametrize("kind", SIGNED_IN)
async def test_what_a_login_lets_go_of_does_not_blind_its_service(service, urls, admin, kind):
    """A worker that sees no row has nothing to do, and nothing to tell."""
    policies = "SELECT tablename, policyname, roles, qual FROM pg_policies ORDER BY 1, 2"
    before = await admin.fetch(policies)
    session = await asyncpg.connect(dsn_of(getattr(urls, f"{kind}_url")), server_settings=OF_SERVICE)
    try:
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await session.execute("DROP OWNED BY CURRENT_USER")
    finally:
        await session.close()
    assert before
    assert await admin.fetch(policies) == before


async def test_every_function_finds_its_tables_by_a_search_path_of_its_own(service, urls, admin):
    functions = await admin.fetch(
        "SELECT p.oid::regprocedure::text AS name, p.proconfig, pg_get_userbyid(p.proowner) AS owner FROM pg_proc p"
        " WHERE p.pronamespace = 'public'::regnamespace"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
    )
    assert len(functions) >= 3
    loose = [row["name"] for row in functions if "search_path=public, pg_temp" not in (row["proconfig"] or [])]
    assert loose == []
    assert {row["owner"] for row in functions} == {database_of(service).owner_role}
    assert [trigger["tgname"] for trigger in await admin.fetch(
        "SELECT t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " WHERE NOT t.tgisinternal AND p.pronamespace <> 'public'::regnamespace"
    )] == []  # fmt: skip


async def test_everybody_else_has_no_right_at_all(urls, admin):
    granted = await admin.fetch(
        "SELECT 'table ' || c.relname FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee = 0 AND"
        " c.relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT 'function ' || p.proname FROM pg_proc p,"
        " aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0 AND"
        " p.pronamespace = 'public'::regnamespace"
        " UNION ALL SELECT 'schema ' || n.nspname FROM pg_namespace n, aclexplode(n.nspacl) a WHERE a.grantee = 0 AND"
        " n.nspname = 'public'"
        " UNION ALL SELECT 'database' FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a"
        " WHERE a.grantee = 0 AND d.datname = current_database()"
    )
    assert [row[0] for row in granted] == []


async def test_whatever_takes_the_time_from_a_login_asks_whether_it_can_be(service, admin):
    """What runs as the owner may write a time that no login could, and that is never taken back."""
    found = await admin.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
        " AND 'timestamptz'::regtype = ANY (proargtypes) AND prosrc NOT LIKE '%realco_check_time(p_now)%'"
    )
    # This one is told when a hold is to end, by whoever proves to be the service.
    assert {row["proname"] for row in found} == ({"let_hold_expire"} if service == "escrow" else set())
