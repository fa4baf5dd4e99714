"""Where the tests' PostgreSQL and NATS come from.

The PostgreSQL that tests share does not wait for the disk, for it makes, empties and drops databases for hundreds of
tests, and none of them cuts the power. Whoever does, or asks whether it waits, has a cluster of its own or says so by
the fixture `durable`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import sqlalchemy as sa

from deploy.local.nats import EVERYTHING, Nats
from deploy.local.postgres import Postgres
from services.chassis.data.database import Database
from tests.support.chassis import until
from tests.support.databases import connect


class TestPostgres(Protocol):
    """A cluster in which tests make databases."""

    __test__ = False

    @property
    def admin_dsn(self) -> str: ...

    def create_database(self, name: str) -> SimpleNamespace: ...


@contextmanager
def postgres(folder: Path) -> Iterator[TestPostgres]:
    with Postgres(folder) as cluster:
        asyncio.run(set_durable(cluster.admin_dsn, durable=False))
        yield cluster


async def set_durable(admin_dsn: str, *, durable: bool) -> None:
    """Whether the cluster waits for the disk; new connections know it when this returns."""
    wanted = "on" if durable else "off"
    async with connect(admin_dsn) as admin:
        for name in ("fsync", "full_page_writes"):
            await admin.execute(f"ALTER SYSTEM SET {name} = {wanted}")
        await admin.execute("SELECT pg_reload_conf()")

        async def is_applied() -> bool:
            return bool(await admin.fetchval("SHOW full_page_writes") == wanted)

        await until(is_applied)


async def tamper(admin_dsn: str, database: Database, statement: str) -> None:
    """Does as the superuser what no role of a service may."""
    async with database.begin_for_all() as tx:
        name = await tx.scalar(sa.text("SELECT current_database()"))
    async with connect(f"{admin_dsn.rsplit('/', 1)[0]}/{name}") as admin:
        await admin.execute(statement)


async def put_right(admin_dsn: str, database: Database, statement: str) -> None:
    """Writes back what a row said before, as an operator does it: with triggers off."""
    await tamper(admin_dsn, database, f"SET session_replication_role = replica; {statement}")


@contextmanager
def nats(folder: Path) -> Iterator[str]:
    with Nats(folder, everything=True) as server:
        yield server.url(EVERYTHING)
