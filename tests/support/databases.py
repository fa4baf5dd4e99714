"""The databases of tests: copies of what a service's migrations made, each used by many tests, one at a time."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import asyncpg

from deploy.topology import database_of
from services.chassis.data.database import Database
from services.chassis.data.pool import Pool
from services.chassis.data.roles import SESSION_PROOF
from tests.support.seals import OF_SERVICE, SEALS

# What a process is told of the clock. A template takes any business time, as the database of a local instance does.
WITH_TEST_CLOCK = SimpleNamespace(clock_file=Path("clock.json"))
WITHOUT_TEST_CLOCK = SimpleNamespace(clock_file=None)


@dataclass(frozen=True)
class Copy:
    """A database of a test, and what it was like when it was made."""

    urls: SimpleNamespace  # with name, owner_url, app_url, worker_url and admin_url
    template: str
    catalog: int
    rows: dict[str, str | None]  # of each table, as JSON
    admin: asyncpg.Connection  # stays open, as those of `open_database` do


class Copies:
    """Copies of migrated databases, each for one test at a time.

    What a test leaves in its copy is removed and the copy is used again: to make one costs more than most tests do.
    So are the connections of `open_database`, for the like reason: a server's process that has planned a service's
    statements, and read what they name, is worth more than the test. A copy whose schema or rights a test changed is
    dropped.
    """

    def __init__(self, admin_dsn: str) -> None:
        self._admin_dsn = admin_dsn
        self._numbers = itertools.count()
        self._free: dict[str, list[Copy]] = {}

    async def take(self, template: SimpleNamespace, service: str) -> Copy:
        """The service's database as its migrations leave it."""
        if free := self._free.get(template.name):
            return free.pop()
        name, roles = f"{template.name}_copy{next(self._numbers)}", database_of(service)
        await _administer(
            self._admin_dsn,
            # Its rows would otherwise go through the log one by one.
            f"CREATE DATABASE {name} TEMPLATE {template.name} OWNER {roles.owner_role} STRATEGY file_copy",
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {name} TO {roles.app_role}, {roles.worker_role}",
        )
        logins = ("owner_url", "app_url", "worker_url", "admin_url")
        urls = {key: getattr(template, key).rsplit("/", 1)[0] + f"/{name}" for key in logins}
        admin = await asyncpg.connect(urls["admin_url"].replace("+asyncpg", ""))
        # It writes past triggers and foreign keys.
        await admin.execute("SET session_replication_role = replica")
        tables = [row["relname"] for row in await admin.fetch(_TABLES)]
        rows = {table: await admin.fetchval(f"SELECT json_agg(t)::text FROM {table} t") for table in tables}
        return Copy(SimpleNamespace(name=name, **urls), template.name, await admin.fetchval(_CATALOG), rows, admin)

    async def give_back(self, used: Copy) -> None:
        """Whoever still uses it is cut off, but for connections that wait for the next test."""
        await used.admin.execute(_CUT_OTHERS_OFF)
        if await used.admin.fetchval(_CATALOG) == used.catalog:
            await _restore(used.admin, used.rows)
            self._free.setdefault(used.template, []).append(used)
        else:
            await used.admin.close()
            if known := _known.pop(used.urls.app_url, None):
                await known.close()
            await _administer(self._admin_dsn, f"DROP DATABASE {used.urls.name} WITH (FORCE)")

    async def close(self) -> None:
        for waiting in self._free.values():
            for each in waiting:
                await each.admin.close()


async def adopt_proof_of_tests(urls: SimpleNamespace) -> None:
    """What the first start of the service does that seals with `SEALS`."""
    async with connect(urls.app_url, OF_SERVICE) as service:
        await service.execute("SELECT adopt_session_proof($1)", sha256(OF_SERVICE[SESSION_PROOF].encode()).digest())


_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
_KEPT = "tests-kept"
_CUT_OTHERS_OFF = f"""
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND (application_name <> '{_KEPT}' OR state IS DISTINCT FROM 'idle')
"""
# A row of a catalog that was changed was written by another transaction. VACUUM and ANALYZE change them in place.
_CATALOG = """
    SELECT sum(hashtextextended(format('%s %s %s', tableoid, oid, xmin), 0)) FROM (
        SELECT tableoid, oid, xmin FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT tableoid, attrelid, xmin FROM pg_attribute WHERE attrelid >= 16384
        UNION ALL SELECT tableoid, oid, xmin FROM pg_constraint
        UNION ALL SELECT tableoid, oid, xmin FROM pg_policy
        UNION ALL SELECT tableoid, oid, xmin FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT tableoid, oid, xmin FROM pg_trigger
        UNION ALL SELECT tableoid, oid, xmin FROM pg_namespace
        UNION ALL SELECT tableoid, oid, xmin FROM pg_database WHERE datname = current_database()
        UNION ALL SELECT tableoid, setdatabase, xmin FROM pg_db_role_setting WHERE setdatabase IN (
            SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS rows
"""


async def _restore(admin: asyncpg.Connection, rows: dict[str, str | None]) -> None:
    """The rows of each table as they were."""
    await admin.execute(";".join(f"DELETE FROM {table}" for table in rows))
    for table, were in rows.items():
        if were:
            await admin.execute(f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1)", were)


async def _administer(admin_dsn: str, *statements: str) -> None:
    async with connect(admin_dsn) as admin:
        for statement in statements:
            await admin.execute(statement)


@asynccontextmanager
async def connect(url: str, session: Mapping[str, str] | None = None) -> AsyncIterator[asyncpg.Connection]:
    """
    Args:
        session: What it begins with. `OF_SERVICE` of a session of the service's; without it, a login reads.
    """
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), server_settings=dict(session or {}))
    try:
        yield connection
    finally:
        await connection.close()


class KeptDatabase(Database):
    """A service's Database whose connections stay open from test to test; each test has a `new` one of them."""

    def _pool_of(self, url: str, connections_max: int) -> Pool:
        self._session |= {"application_name": _KEPT}
        return super()._pool_of(url, connections_max)

    def new(self) -> KeptDatabase:
        """As if it had just been made: whatever a test sets on it is its own."""
        new = copy.copy(self)
        new.events_waiting = asyncio.Event()
        return new

    async def dispose(self) -> None:
        """Nothing: the next test goes on with its connections."""

    async def close(self) -> None:
        await super().dispose()


_known: dict[str, KeptDatabase] = {}


def open_database(urls: SimpleNamespace, service: str) -> Database:
    """The service's Database at these URLs, as if it were new: but it knows what it compiled for an earlier test."""
    if urls.app_url not in _known:
        _known[urls.app_url] = KeptDatabase(urls.app_url, urls.worker_url, service, SEALS)
    return _known[urls.app_url].new()


async def close_kept() -> None:
    """Closes the connections that waited for a next test."""
    for database in _known.values():
        await database.close()
    _known.clear()
