"""Transactions know their organization, and a connection that was cut is never used again."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from functools import partial

import asyncpg
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from services.chassis.calls.auth import acting_as
from services.chassis.calls.deadline import set_deadline
from services.chassis.data.database import LIMITS, Database
from services.chassis.data.database_errors import is_away, is_contention, sqlstate
from services.chassis.process.tracebacks import describe
from services.chassis.runtime.boot import boot_check, run_boot_watch
from services.chassis.values.errors import BootError
from services.chassis.values.invariant import InvariantViolation
from tests.support import chassis
from tests.support.chassis_events import running
from tests.support.databases import WITHOUT_TEST_CLOCK
from tests.support.seals import SEALS


@pytest.fixture
async def database(urls):
    # Connections that no test before has used: some look at what they are like then.
    async with chassis.opened(urls, connections_max=12) as database:
        yield database


async def test_a_transaction_sees_and_writes_its_own_organization_only(database):
    for org_id in ("org_1", "org_2"):
        async with database.begin(org_id) as tx:
            await chassis.add_note(tx, f"note of {org_id}", org_id)
    assert await chassis.note_ids(database, "org_1") == ["note of org_1"]
    assert await chassis.note_ids(database, "org_3") == []
    assert await chassis.note_ids(database) == ["note of org_1", "note of org_2"]
    with acting_as(chassis.OTHER_ORG):
        async with database.begin() as tx:
            assert await tx.scalar(sa.select(chassis.notes.c.note_id)) == "note of org_2"
    with pytest.raises(asyncpg.PostgresError, match="row-level security"):
        async with database.begin("org_1") as tx:
            await chassis.add_note(tx, "smuggled", "org_2")


async def test_without_an_organization_there_is_no_transaction_and_no_row(database):
    with pytest.raises(InvariantViolation, match="no principal"):
        async with database.begin():
            pass
    async with database.begin("org_1") as tx:
        await chassis.add_note(tx, "kept")
    async with database.connect_raw() as used, database.connect_raw() as unused:
        assert await used.fetchval("SELECT count(*) FROM notes") == 0
        with pytest.raises(asyncpg.PostgresError, match="org_id"):  # never set: an error, not all rows
            await unused.fetch("SELECT * FROM notes")


async def test_a_transaction_whose_statement_failed_is_not_taken_for_done(database):
    async def swallow_a_failure() -> None:
        async with database.begin("org_1") as tx:
            await chassis.add_note(tx, "lost")
            with suppress(asyncpg.PostgresError):
                await tx.execute(sa.text("SELECT 1 / 0"))

    with pytest.raises(InvariantViolation, match="not taken for done"):
        await swallow_a_failure()
    assert await chassis.note_ids(database) == []


async def test_no_name_of_an_organization_is_sql(database):
    with pytest.raises(InvariantViolation, match="quotes"):
        async with database.begin("org_1', true); DROP TABLE notes; SELECT set_config('a.b', '"):
            pass


async def test_what_raises_is_rolled_back(database):
    async def fail() -> None:
        async with database.begin("org_1") as tx:
            await chassis.add_note(tx, "gone")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await fail()
    assert await chassis.note_ids(database) == []


async def test_a_cancelled_query_never_gives_its_connection_back(urls):
    async with chassis.opened(urls, connections_max=1) as database:
        async with database.begin_for_all() as tx:
            first = await tx.scalar(sa.text("SELECT pg_backend_pid()"))
        started = asyncio.Event()

        async def slow() -> None:
            async with database.begin_for_all() as tx:
                await chassis.add_note(tx, "half done")
                started.set()
                await tx.execute(sa.text("SELECT pg_sleep(20)"))

        task = asyncio.create_task(slow())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with database.begin_for_all() as tx:  # the pool has one place, and it is free at once
            assert await tx.scalar(sa.text("SELECT pg_backend_pid()")) != first
        assert await chassis.note_ids(database) == []


async def test_a_commit_once_begun_is_finished_though_the_caller_is_cancelled(urls, database):
    """A deferred trigger makes the commit take a while; the cancellation comes in the middle of it."""
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        committing = asyncio.Event()

        async def write() -> None:
            async with database.begin("org_1") as tx:
                await chassis.add_note(tx, "committed")
                committing.set()

        task = asyncio.create_task(write())
        await committing.wait()
        await chassis.until(
            lambda: admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await chassis.note_ids(database) == ["committed"]


async def test_a_connection_the_server_dropped_is_replaced_before_anybody_notices(urls, database):
    async with database.begin_for_all(), database.begin_for_all(), database.begin_for_all():
        pass
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'realco-chassis' AND datname = current_database()"
        )
        await chassis.until(lambda: _none_left(admin))
    assert await chassis.note_ids(database) == []


async def _none_left(admin) -> bool:
    return await admin.fetchval(
        "SELECT count(*) = 0 FROM pg_stat_activity"
        " WHERE application_name = 'realco-chassis' AND datname = current_database()"
    )


async def test_a_statement_ends_with_the_deadline_of_its_call(database):
    async def call() -> None:
        set_deadline(0.2)
        async with database.begin_for_all() as tx:
            await tx.execute(sa.text("SELECT pg_sleep(20)"))

    with pytest.raises(asyncpg.PostgresError) as cut:
        await asyncio.create_task(call())
    assert sqlstate(cut.value) == "57014"


async def test_waiting_for_a_lock_ends_and_may_be_tried_again(database):
    async with database.begin("org_1") as tx:
        await chassis.add_note(tx, "n")
    update = chassis.notes.update().values(body="x")
    async with database.begin("org_1") as first:
        await first.execute(update)
        with pytest.raises(asyncpg.PostgresError) as lost:
            async with database.begin("org_1", lock_timeout_ms=50) as second:
                await second.execute(update)
    assert is_contention(lost.value)
    assert not is_away(lost.value)


async def test_a_database_that_is_away_is_told_from_one_that_refuses(urls, database):
    nowhere = Database(*2 * [urls.app_url.rsplit("@", 1)[0] + "@127.0.0.1:1/none"], "chassis", SEALS)
    with pytest.raises(OSError) as away:  # noqa: PT011  # which one depends on the system
        await chassis.note_ids(nowhere)
    assert is_away(away.value)
    await nowhere.dispose()
    signed_out = Database(*2 * [re.sub(r":[^:@]+@", ":another@", urls.app_url)], "chassis", SEALS)
    with pytest.raises(asyncpg.InvalidPasswordError) as away:  # whoever has its login may change the password
        await chassis.note_ids(signed_out)
    assert is_away(away.value)
    await signed_out.dispose()
    with pytest.raises(asyncpg.PostgresError) as wrong:
        async with database.begin("org_1") as tx:
            await tx.execute(chassis.notes.insert().values(org_id="org_1", note_id="secret-value", size=-1))
    assert not is_away(wrong.value)
    assert "secret-value" not in describe(wrong.value)


async def test_append_only_means_it_for_everybody(urls, database):
    async with database.begin("org_1") as tx:
        await tx.execute(chassis.facts.insert().values(org_id="org_1", fact_id="f"))
    for statement in ("UPDATE facts SET fact_id = 'g'", "DELETE FROM facts", "TRUNCATE facts", "DROP TABLE facts"):
        with pytest.raises(asyncpg.PostgresError) as refused:
            async with database.begin("org_1") as tx:
                await tx.execute(sa.text(statement))
        assert sqlstate(refused.value) == "42501", statement
    async with chassis.as_superuser(urls) as admin:
        for statement in ("UPDATE facts SET fact_id = 'g'", "DELETE FROM facts", "TRUNCATE facts"):
            with pytest.raises(Exception, match="keeps its rows"):
                await admin.execute(statement)


async def test_the_app_role_may_change_rows_and_no_schema(database):
    for statement in (
        "CREATE TABLE t (x int)",
        "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
        "DROP POLICY organization ON notes",
        "TRUNCATE notes",
        "SET session_replication_role = replica",
        "UPDATE alembic_version SET version_num = 'x'",
    ):
        with pytest.raises(asyncpg.PostgresError) as refused:
            async with database.begin("org_1") as tx:
                await tx.execute(sa.text(statement))
        assert sqlstate(refused.value) == "42501", statement


async def test_what_a_login_makes_of_its_own_defaults_changes_no_transaction_and_no_statement_by_itself(postgres):
    urls = await chassis.create(postgres)
    database = Database(urls.app_url, urls.worker_url, "chassis", SEALS)
    harm = {
        "lock_timeout": "0",
        "search_path": "pg_catalog",
        "synchronous_commit": "off",
        "row_security": "off",
        "timezone": "Asia/Tokyo",
        "bytea_output": "escape",
        "array_nulls": "off",
        "transaction_read_only": "on",
    }
    for login in (partial(database.begin, "org_1"), database.begin_for_all):
        async with login() as tx:
            for name, value in harm.items():
                name = name.replace("transaction_", "default_transaction_")
                await tx.execute(sa.text(f"ALTER ROLE CURRENT_USER SET {name} = '{value}'"))
    await database.dispose()
    for login in (partial(database.begin, "org_1"), database.begin_for_all):
        async with login() as tx:
            assert await tx.scalar(sa.text("SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")) == "Asia/Tokyo"
            assert await tx.scalar(sa.text("SELECT count(*) FROM notes")) == 0
            used = {name: await tx.scalar(sa.text(f"SHOW {name}")) for name in harm}
        assert used == {
            "lock_timeout": "2s",
            "search_path": "public, pg_temp",
            "synchronous_commit": "on",
            "row_security": "on",
            "timezone": "UTC",
            "bytea_output": "hex",
            "array_nulls": "on",
            "transaction_read_only": "off",
        }
    settings = ", ".join(f"current_setting('{name}') AS {name}" for name in harm)
    [found] = await database.send_for_all(f"SELECT {settings} FROM {LIMITS} limits")
    assert dict(found) == used | {"transaction_read_only": "on"}
    # What is settled before a statement runs fails closed.
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await database.send_for_all("SELECT FROM public.notes")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await database.send_for_all("DELETE FROM public.leaders")
    # It does not last longer than the defaults themselves, on no connection.
    async with database.begin_for_all() as tx:
        await tx.execute(sa.text("ALTER ROLE CURRENT_USER RESET ALL"))
    await database.send_for_all("DELETE FROM public.leaders")
    await database.dispose()


@pytest.mark.usefixtures("durable")
async def test_a_safe_database_passes_the_boot_check(database):
    await boot_check(database, WITHOUT_TEST_CLOCK)


@pytest.mark.usefixtures("durable")
@pytest.mark.parametrize(
    ("role", "harm", "fault"),
    [
        ("app_url", "CREATE POLICY wider ON notes USING (true)", "table notes shows requests more than their own"),
        (
            "app_url",
            "ALTER POLICY organization ON notes USING (true)",
            "table notes shows requests more than their own",
        ),
        ("app_url", "DROP POLICY organization ON notes", "table notes shows .*, or the worker less than all"),
        ("app_url", "ALTER POLICY organization ON notes TO {app}", "table notes shows .*, or the worker less than all"),
        ("app_url", "GRANT TEMPORARY ON DATABASE {name} TO PUBLIC", "{app} may make temporary tables"),
        ("app_url", "GRANT CREATE ON SCHEMA public TO {app}", "{app} may make tables"),
        ("app_url", "GRANT EXECUTE ON FUNCTION lo_create TO {worker}", "{worker} may call what nobody calls"),
        ("app_url", "GRANT USAGE ON LANGUAGE plpgsql TO {worker}", "{worker} may write programs"),
        ("app_url", "GRANT {worker} TO {app}", "{app} is a member of another role"),
        ("app_url", "ALTER ROLE {app} CREATEROLE", "{app} may make roles"),
        ("app_url", "ALTER ROLE {worker} CONNECTION LIMIT -1", "{worker} may open all connections"),
        ("app_url", "ALTER ROLE {worker} SET lock_timeout = '9s'", "role {worker} lacks a setting"),
        ("worker_url", "SELECT 1", "WORKER_DATABASE_URL: signs in as {worker}, as requests do"),
        ("app_url", "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY", "table notes has org_id"),
        ("app_url", "ALTER TABLE notes DISABLE ROW LEVEL SECURITY", "table notes has org_id"),
        ("app_url", "ALTER TABLE notes DISABLE TRIGGER USER", "table notes has triggers that are switched off"),
        ("app_url", "ALTER DATABASE {name} SET synchronous_commit = off", "synchronous_commit must be on"),
        ("app_url", "ALTER ROLE {app} SET lock_timeout = '9s'", "ALTER ROLE ... SET lock_timeout = '2000'"),
        ("app_url", "ALTER ROLE {app} RESET ALL", "SET idle_in_transaction_session_timeout = '5000'"),
        (
            "app_url",
            "ALTER ROLE {app} SET exit_on_error = on",
            "{app} has a setting of its own: .* RESET exit_on_error",
        ),
        ("app_url", "ALTER ROLE {worker} SET a.b = 'c'", "{worker} has a setting of its own: ALTER ROLE ... RESET a.b"),
        (
            "app_url",
            "ALTER ROLE {app} IN DATABASE {name} SET lock_timeout = '2s'",
            "{app} has a setting of its own: ALTER ROLE ... IN DATABASE {name} RESET lock_timeout",
        ),
        ("app_url", "ALTER DATABASE {name} SET session_replication_role = replica", "no trigger and no foreign key"),
        ("app_url", "UPDATE test_clock SET allowed = true", "run the migrations without CLOCK_FILE"),
        ("owner_url", "SELECT 1", "owns tables"),
        ("admin_url", "SELECT 1", "is superuser"),
    ],
)
async def test_an_unsafe_database_is_refused_at_start(postgres, role, harm, fault):
    urls = await chassis.create(postgres)  # with roles of its own, which are harmed
    name = urls.name.removeprefix("realco_")
    names = {"name": urls.name, "app": f"{name}_app", "worker": f"{name}_worker"}
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(harm.format(**names))
    database = Database(getattr(urls, role), urls.worker_url, "chassis", SEALS)
    with pytest.raises(BootError, match=fault.format(**names)):
        await boot_check(database, WITHOUT_TEST_CLOCK)
    await database.dispose()


@pytest.mark.usefixtures("durable")
async def test_a_login_that_may_switch_triggers_off_is_refused_at_start(postgres):
    urls = await chassis.create(postgres)
    database = Database(urls.app_url, urls.worker_url, "chassis", SEALS)
    named = f"ON PARAMETER session_replication_role {{}} {urls.name.removeprefix('realco_')}_worker"
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("GRANT SET " + named.format("TO"))
        try:
            with pytest.raises(BootError, match="_worker may set a parameter of the server"):
                await boot_check(database, WITHOUT_TEST_CLOCK)
        finally:  # it is a right in all databases of the cluster
            await admin.execute("REVOKE ALL " + named.format("FROM"))
    await database.dispose()


@pytest.mark.usefixtures("durable")
async def test_what_a_login_changes_of_its_own_settings_is_an_alarm_while_the_service_serves(postgres):
    urls, alarms = await chassis.create(postgres), {}
    database = Database(urls.app_url, urls.worker_url, "chassis", SEALS)

    async def set_timeout(value: str) -> None:
        async with database.begin_for_all() as tx:
            await tx.execute(sa.text(f"ALTER ROLE CURRENT_USER SET lock_timeout = '{value}'"))

    def open_anew() -> Database:
        return Database(urls.app_url, urls.worker_url, "chassis", SEALS)

    with capture_logs() as logged:
        async with running(partial(run_boot_watch, open_anew, WITHOUT_TEST_CLOCK), alarms=alarms, check_seconds=0.1):
            await set_timeout("9s")
            await chassis.until(lambda: "lock_timeout" in alarms.get("database", ""))
            await set_timeout("2s")
            await chassis.until(lambda: not alarms)
    assert [line["event"] for line in logged] == ["database_at_fault", "database_mended"]
    await database.dispose()


@pytest.mark.usefixtures("durable")
@pytest.mark.parametrize(
    ("harm", "cure"),
    [
        ("CONNECTION LIMIT 0", "CONNECTION LIMIT 9"),  # as where somebody has all that there are
        ("SET transaction_timeout = '1ms'", "RESET transaction_timeout"),
    ],
)
async def test_that_no_new_session_can_be_used_is_an_alarm_while_the_service_serves(postgres, monkeypatch, harm, cure):
    """Those that began before go on, so nothing else tells of it."""
    monkeypatch.setattr("services.chassis.process.loops.ALARM_SECONDS", 0.5)
    urls, alarms = await chassis.create(postgres), {}
    app = f"{urls.name.removeprefix('realco_')}_app"

    def open_anew() -> Database:
        return Database(urls.app_url, urls.worker_url, "chassis", SEALS)

    async with chassis.as_superuser(urls) as admin:
        await admin.execute(f"ALTER ROLE {app} {harm}")
        async with running(partial(run_boot_watch, open_anew, WITHOUT_TEST_CLOCK), alarms=alarms, check_seconds=0.1):
            await chassis.until(lambda: "new sessions of the database" in alarms)
            await admin.execute(f"ALTER ROLE {app} {cure}")
            await chassis.until(lambda: not alarms)
