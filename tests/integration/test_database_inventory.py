"""Whatever is in a database and in no migration is named, wherever it is, and so is who may do what there unstated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from deploy.topology import database_of
from services.chassis.data.migrate import begin_incarnation, drift, find_guard_differences
from services.chassis.data.urls import dsn_of

SERVICE = "compliance"
KNOWN = database_of(SERVICE)
_ANY_CHECK = "SELECT conname FROM pg_constraint WHERE conrelid = 'parties'::regclass AND contype = 'c' LIMIT 1"
_INCARNATION = "SELECT incarnation::text FROM public.incarnation"


@pytest.fixture
async def urls(service_urls) -> SimpleNamespace:
    made: SimpleNamespace = await service_urls(SERVICE)
    return made


@pytest.fixture
async def admin(urls) -> AsyncIterator[AsyncConnection]:
    """A superuser in a transaction that is rolled back, since roles are there for all databases."""
    engine = create_async_engine(urls.admin_url)
    async with engine.connect() as connection:
        yield connection
        await connection.rollback()
    await engine.dispose()


async def do(admin: AsyncConnection, statements: str) -> None:
    session = await admin.get_raw_connection()
    assert session.driver_connection is not None
    await admin.execute(sa.text("SELECT 1"))  # begins the transaction
    await session.driver_connection.execute(statements)


async def find_after(admin: AsyncConnection, *statements: str) -> list[str]:
    """What the owner's check names once a superuser did this."""
    for statement in statements:
        await do(admin, statement)
    await admin.execute(sa.text(f"SET LOCAL ROLE {KNOWN.owner_role}"))
    found = await admin.run_sync(find_guard_differences, SERVICE)
    await admin.execute(sa.text("RESET ROLE"))
    return found


# By an owner, or by whoever has a superuser or the dump that one restores; each with the lines that say so.
HARMS: dict[str, tuple[str, list[str]]] = {
    "a table of the house read by another login": (
        (
            "CREATE ROLE reader LOGIN; GRANT SELECT, INSERT ON outbox TO reader;"
            " GRANT SELECT (seal) ON approvals TO reader"
        ),
        ["reader may SELECT outbox: that", "reader may INSERT outbox: that", "reader may SELECT approvals.seal: that"],
    ),
    "a way in for another login": (
        (
            "CREATE ROLE visitor LOGIN; GRANT USAGE ON SCHEMA public TO visitor;"
            " DO $$BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO visitor', current_database()); END$$"
        ),
        ["visitor may USAGE schema public: that", "visitor may CONNECT the database: that"],
    ),
    "rights of everybody": (
        "GRANT SELECT ON parties TO PUBLIC; GRANT EXECUTE ON FUNCTION realco_refuse() TO PUBLIC",
        ["PUBLIC may SELECT parties: that", "PUBLIC may EXECUTE realco_refuse(): that"],
    ),
    "rights to hand on": (
        f"GRANT SELECT ON incarnation TO {KNOWN.app_role} WITH GRANT OPTION",
        [f"{KNOWN.app_role} may SELECT incarnation and hand that on: that is in no migration"],
    ),
    "rights to come": (
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {KNOWN.owner_role} GRANT ALL ON TABLES TO PUBLIC",
        [f"default acl for role {KNOWN.owner_role} on tables is in no migration"],
    ),
    "another owner": (
        "ALTER TABLE stops OWNER TO postgres; ALTER FUNCTION realco_refuse() OWNER TO postgres",
        ["stops belongs to postgres: that", "realco_refuse() belongs to postgres: that"],
    ),
    "an index that refuses nothing": (
        "UPDATE pg_index SET indisvalid = false, indisready = false WHERE indexrelid = 'outbox_unpublished'::regclass",
        ["index outbox_unpublished of outbox is not ready: that is in no migration"],
    ),
    "a foreign key that refuses nothing": (
        "ALTER TABLE {referring} DISABLE TRIGGER ALL; ALTER TABLE {referring} ENABLE TRIGGER USER",
        ["RI_FKey_check_ins, never: that is in no migration"],
    ),
    "another order of texts": (
        'ALTER TABLE dead_letters ALTER COLUMN cause TYPE text COLLATE "POSIX"',
        ["dead_letters.cause is sorted by pg_catalog.POSIX: that"],
    ),
    "a child of a table": (
        "CREATE TABLE information_schema.child () INHERITS (public.stops)",
        ["table information_schema.child is in no", "information_schema.child inherits from stops: that"],
    ),
    "functions among PostgreSQL's own": (
        (
            "CREATE FUNCTION pg_catalog.extra(text) RETURNS int LANGUAGE sql AS 'SELECT 1';"
            "CREATE FUNCTION information_schema.extra() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        ),
        ["function pg_catalog.extra(pg_catalog.text) is in no", "function information_schema.extra() is in no"],
    ),
    "one of PostgreSQL's own functions, made anew": (
        "CREATE OR REPLACE FUNCTION pg_catalog.btrim(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1'",
        ["function pg_catalog.btrim(pg_catalog.text) is not as PostgreSQL made it"],
    ),
    "another's": (
        "ALTER FUNCTION pg_catalog.rtrim(text) OWNER TO {owner}",
        ["function pg_catalog.rtrim(pg_catalog.text) is not as PostgreSQL made it"],
    ),
    "one that nobody may call, made anew": (
        (
            "CREATE OR REPLACE FUNCTION pg_catalog.pg_terminate_backend(pid integer, timeout bigint DEFAULT 0)"
            " RETURNS boolean LANGUAGE sql AS 'SELECT true'"
        ),
        ["function pg_catalog.pg_terminate_backend(integer,bigint) is not as PostgreSQL made it"],
    ),
    "a catalogue that a login writes": (
        f"GRANT UPDATE ON pg_proc TO {KNOWN.app_role}; GRANT UPDATE (prosrc) ON pg_proc TO {KNOWN.worker_role}",
        [f"{KNOWN.app_role} may UPDATE pg_proc: that", f"{KNOWN.worker_role} may UPDATE pg_proc.prosrc: that"],
    ),
    "an operator among PostgreSQL's own": (
        "CREATE OPERATOR pg_catalog.=== (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)",
        ["operator pg_catalog.===(pg_catalog.text,pg_catalog.text) is in no migration"],
    ),
    "a member of an extension that there always is": (
        "CREATE FUNCTION kin() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER EXTENSION plpgsql ADD FUNCTION kin()",
        ["function kin() is in no migration"],
    ),
    "rows that come from elsewhere": (
        "CREATE SUBSCRIPTION fed CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)",
        ["subscription fed: that is stated nowhere"],
    ),
    "a language, an operator class, a large object, statistics and a type": (
        (
            "CREATE LANGUAGE another HANDLER plpgsql_call_handler; SELECT lo_from_bytea(98765, 'x');"
            "CREATE OPERATOR CLASS rare FOR TYPE text USING btree AS OPERATOR 1 <, FUNCTION 1 bttextcmp(text, text);"
            "CREATE STATISTICS guessed ON org_id, event_id FROM outbox; CREATE TYPE pair AS (a int, b int)"
        ),
        [
            *("language another is in", "large object 98765 is in", "operator class rare USING btree is in"),
            *("statistics object guessed is in", "type pair is in"),
        ],
    ),
    "roles that pass everything": (
        (
            "CREATE ROLE root2 LOGIN SUPERUSER; CREATE ROLE seer LOGIN BYPASSRLS;"
            f"ALTER ROLE {KNOWN.worker_role} CREATEROLE; CREATE ROLE strange LOGIN CREATEROLE;"
            f"CREATE ROLE copier LOGIN REPLICATION; GRANT pg_execute_server_program TO {KNOWN.app_role};"
            f"CREATE ROLE friend LOGIN; GRANT {KNOWN.owner_role} TO friend"
        ),
        [
            *("role root2, which is a superuser: that", "role seer, which passes row level security: that"),
            *(f"role {KNOWN.worker_role}, which makes roles: that", "role copier, which copies the cluster: that"),
            f"role {KNOWN.app_role}, which is a member of pg_execute_server_program: that",
            f"role friend, which is a member of {KNOWN.owner_role}: that",
        ],
    ),
    "numbers that come back": (
        "ALTER SEQUENCE outbox_id_seq INCREMENT BY 1000000000 MAXVALUE 3000000000 CYCLE",
        ["sequence outbox_id_seq"],
    ),
    "a login that may switch triggers off": (
        f"GRANT SET ON PARAMETER session_replication_role TO {KNOWN.app_role}",
        [f"{KNOWN.app_role} may SET the parameter session_replication_role: that"],
    ),
    "things that are said to be part of an extension": (
        (
            "CREATE EXTENSION pg_stat_statements SCHEMA information_schema;"
            "CREATE FUNCTION pg_catalog.convert_to(text, text) RETURNS bytea LANGUAGE sql AS $$SELECT ''::bytea$$;"
            " ALTER EXTENSION pg_stat_statements ADD FUNCTION pg_catalog.convert_to(text, text)"
        ),
        [
            "extension pg_stat_statements is in no",
            "function pg_catalog.convert_to(pg_catalog.text,pg_catalog.text) is in no",
        ],
    ),
    "settings of all who sign in": (
        (
            "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET row_security = off', current_database()); END$$;"
            f"ALTER ROLE {KNOWN.owner_role} SET search_path = pg_temp"
        ),
        ["setting row_security of all roles: that", f"setting search_path of {KNOWN.owner_role}: that"],
    ),
}


async def test_whatever_is_there_and_not_stated_is_named(admin):
    referring = await admin.scalar(sa.text("SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"))
    for statements, _ in HARMS.values():
        await do(admin, statements.replace("{referring}", referring).replace("{owner}", KNOWN.owner_role))
    found = "\n".join(await find_after(admin))
    missed = {name: [line for line in said if line not in found] for name, (_, said) in HARMS.items()}
    assert {name: lines for name, lines in missed.items() if lines} == {}


async def test_an_owner_who_has_another_path_hides_nothing_and_keeps_no_restore_from_a_new_incarnation(urls):
    owner = await asyncpg.connect(dsn_of(urls.owner_url))
    await owner.execute(
        "CREATE SCHEMA evil; CREATE TABLE evil.pg_db_role_setting (setdatabase oid, setrole oid, setconfig text[]);"
        "CREATE TABLE evil.pg_constraint (LIKE pg_catalog.pg_constraint);"
        "CREATE TABLE evil.incarnation AS TABLE incarnation;"
        f"ALTER TABLE parties DROP CONSTRAINT {await owner.fetchval(_ANY_CHECK)};"
        f"ALTER ROLE CURRENT_USER IN DATABASE {urls.name} SET search_path = evil, public, pg_catalog"
    )
    before = await owner.fetchval(_INCARNATION)
    found = "\n".join(await drift(urls.owner_url, SERVICE))
    begun = await begin_incarnation(urls.owner_url)
    assert "schema evil is in no migration" in found
    assert f"setting search_path of {KNOWN.owner_role}: that" in found
    assert "constraint " in found
    assert before != begun == await owner.fetchval(_INCARNATION)
    await owner.close()


async def test_of_a_database_that_nobody_touched_nothing_is_named(admin):
    assert await find_after(admin) == []


async def test_what_a_superuser_or_maintenance_rewrites_as_it_was_is_not_named(admin):
    """Rights that were given as they are, a table that was written anew, one that a session has for itself."""
    assert (
        await find_after(
            admin,
            f"REVOKE ALL ON incarnation FROM {KNOWN.app_role}; GRANT SELECT ON incarnation TO {KNOWN.app_role}",
            "CLUSTER outbox USING outbox_pkey; ALTER TABLE outbox SET WITHOUT CLUSTER; REINDEX TABLE outbox",
            "CREATE TEMPORARY TABLE mine (id int PRIMARY KEY, name text DEFAULT 'x')",
            "ANALYZE",
        )
        == []
    )


async def test_a_trigger_that_calls_a_function_of_the_same_name_elsewhere_is_named(admin):
    """PostgreSQL prints no schema of what is in pg_catalog: each of these reads as the migrations make it."""
    triggers = await admin.execute(
        sa.text(
            "SELECT DISTINCT proname, tgname, tgrelid::regclass::text AS relation, pg_get_triggerdef(t.oid) AS made"
            " FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE NOT tgisinternal AND tgconstraint = 0"
        )
    )
    rows = triggers.all()
    assert len(rows) > 20
    for name in {row.proname for row in rows}:
        await admin.exec_driver_sql(
            f"CREATE FUNCTION pg_catalog.{name}() RETURNS trigger LANGUAGE plpgsql"
            " AS $$BEGIN RETURN coalesce(NEW, OLD); END$$"
        )
    for row in rows:
        made = row.made.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER").replace("FUNCTION public.", "FUNCTION ")
        await admin.exec_driver_sql(made.replace("EXECUTE FUNCTION ", "EXECUTE FUNCTION pg_catalog."))
    found = await find_after(admin)
    for row in rows:
        said = f"trigger {row.tgname} of {row.relation} calls pg_catalog.{row.proname}, always: that is in no migration"
        assert said in found
        assert f"function pg_catalog.{row.proname}() is in no migration" in found
