"""The embedded PostgreSQL: durable, closed, and back after a kill."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import psutil
import pytest

from deploy.local.postgres import Postgres
from deploy.local.postgres_binaries import list_identities
from services.chassis.data.roles import APP_CONNECTION_LIMIT, WORKER_CONNECTION_LIMIT

# As whom root may run it here; an ordinary user runs it as they are.
WAYS = list(list_identities()) if os.geteuid() == 0 else [None]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("cluster")) as server:
        yield server


@pytest.fixture(scope="module")
def escrow(cluster: Postgres) -> SimpleNamespace:
    return cluster.create_database("escrow")


def dsn(url: str) -> str:
    return url.replace("+asyncpg", "")


async def ask(url: str, question: str) -> object:
    connection = await asyncpg.connect(dsn(url))
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("password_encryption", "scram-sha-256"),
        ("max_connections", "200"),
        ("shared_buffers", "256MB"),
        ("TimeZone", "UTC"),
        ("max_notify_queue_pages", "64"),
    ],
)
async def test_it_is_set_to_keep_what_it_acknowledged_and_to_stay_inside(
    cluster: Postgres, setting: str, value: str
) -> None:
    assert await ask(cluster.admin_dsn, f"SELECT current_setting('{setting}')") == value


@pytest.mark.parametrize("role", ["escrow_app", "escrow_owner"])
async def test_a_role_of_a_service_has_no_power_beyond_its_database(
    cluster: Postgres, escrow: object, role: str
) -> None:
    powers = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    assert await ask(cluster.admin_dsn, f"SELECT {powers} FROM pg_roles WHERE rolname = '{role}'") is False


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE EXTENSION citext",
        "CREATE ROLE mine",
        "SET session_replication_role = 'replica'",
        "SET ROLE escrow_owner",
        "ALTER SYSTEM SET fsync = off",
    ],
)
async def test_the_app_role_changes_no_schema(escrow: SimpleNamespace, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(escrow.app_url, statement)


async def test_the_app_role_sees_a_table_only_once_a_migration_grants_it(escrow: SimpleNamespace) -> None:
    await ask(escrow.owner_url, "CREATE TABLE granted AS SELECT 7 AS amount")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(escrow.app_url, "SELECT amount FROM granted")
    await ask(escrow.owner_url, "GRANT SELECT ON granted TO escrow_app")
    assert await ask(escrow.app_url, "SELECT amount FROM granted") == 7


@pytest.mark.parametrize("role", ["app_url", "owner_url"])
async def test_a_service_does_not_enter_anothers_database(
    cluster: Postgres, escrow: SimpleNamespace, role: str
) -> None:
    other = cluster.create_database("compliance")
    for database in (other.name, "postgres", "template1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(getattr(escrow, role).rsplit("/", 1)[0] + f"/{database}", "SELECT 1")


@pytest.mark.parametrize(
    ("role", "limit"), [("app_url", APP_CONNECTION_LIMIT), ("worker_url", WORKER_CONNECTION_LIMIT)]
)
async def test_whoever_has_one_login_leaves_connections_to_the_others(
    escrow: SimpleNamespace, role: str, limit: int
) -> None:
    others = [name for name in ("app_url", "worker_url", "owner_url") if name != role]
    async with AsyncExitStack() as stack:
        for _ in range(limit):
            stack.push_async_callback((await asyncpg.connect(dsn(getattr(escrow, role)))).close)
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await asyncpg.connect(dsn(getattr(escrow, role)))
        assert [await ask(getattr(escrow, name), "SELECT 1") for name in others] == [1, 1]


async def test_whoever_has_one_login_fills_neither_the_log_with_plans_nor_the_statistics_with_texts(
    cluster: Postgres, escrow: SimpleNamespace
) -> None:
    """Anybody may have the plans of their statements logged, and no setting bounds how long a text is kept."""
    kept_before = _bytes_of_files(cluster.data_dir)
    connection = await asyncpg.connect(dsn(escrow.app_url))
    await connection.execute("SET debug_print_parse = on; SET debug_print_rewritten = on; SET debug_print_plan = on")
    await connection.execute(f"SELECT 1 WHERE 1 IN ({', '.join(f'length(md5({n}::text))' for n in range(2000))})")
    await connection.execute("SET debug_print_parse = off; SET debug_print_rewritten = off; SET debug_print_plan = off")
    for columns in range(3):
        await connection.execute(f"SELECT 1 /* {'x' * 1_000_000} */ {', 1' * columns}")
    await connection.close()
    assert _bytes_of_files(cluster.data_dir) - kept_before < 10_000


def _bytes_of_files(folder: Path) -> int:
    """Of PostgreSQL's log and its statistics of statements."""
    texts = folder.glob("postgres/cluster/pg_stat_tmp/*")
    return sum(file.stat().st_size for file in (folder / "logs" / "postgres.log", *texts))


async def test_a_wrong_password_is_refused(cluster: Postgres, escrow: SimpleNamespace) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(
            host="127.0.0.1", port=cluster.port, user="escrow_app", password="guess", database=escrow.name
        )


async def test_making_a_database_again_changes_nothing(cluster: Postgres, escrow: SimpleNamespace) -> None:
    await ask(escrow.owner_url, "CREATE TABLE kept AS SELECT 1 AS one")
    assert cluster.create_database("escrow") == escrow
    assert await ask(escrow.owner_url, "SELECT one FROM kept") == 1


@pytest.mark.parametrize("name", ["", "Escrow", "1st", 'x"; DROP DATABASE postgres', "a" * 42])
def test_a_name_that_needs_quoting_is_refused(cluster: Postgres, name: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        cluster.create_database(name)


@pytest.mark.parametrize("way", WAYS)
async def test_it_keeps_rows_port_and_passwords_through_a_kill_and_a_restart(tmp_path: Path, way: str | None) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)  # as a home folder is
    first = Postgres(private, run_as=way)
    with first:
        database = first.create_database("escrow")
        await ask(database.owner_url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS row")
        backend = await asyncpg.connect(dsn(database.app_url))  # a session makes orphans that hold the memory
        assert first.program.pid is not None
        psutil.Process(first.program.pid).kill()
        first.program.wait(5)
        first.start()
        assert await ask(database.owner_url, "SELECT count(*) FROM kept") == 1000
        backend.terminate()
    again = Postgres(private, run_as=way)
    with again:
        assert again.port == first.port
        assert again.create_database("escrow") == database
        assert await ask(database.owner_url, "SELECT count(*) FROM kept") == 1000
    secrets = list((private / "secrets").iterdir())
    assert len(secrets) == 4
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets} == {0o600}


def test_a_first_start_that_was_cut_short_leaves_nothing_half_made(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "cluster.new").mkdir(parents=True)
    (tmp_path / "postgres" / "cluster.new" / "PG_VERSION").write_text("18\n")
    with Postgres(tmp_path) as server:
        assert server.create_database("escrow").name == "realco_escrow"


def test_the_pid_file_of_a_dead_server_does_not_hold_up_the_next(tmp_path: Path) -> None:
    with Postgres(tmp_path):
        pass
    # The number of a dead server may belong to anybody later, such as to this very process.
    (tmp_path / "postgres" / "cluster" / "postmaster.pid").write_text(f"{os.getpid()}\n/nowhere\n0\n1\n\n\n")
    with Postgres(tmp_path) as server:
        assert server.is_ready()
