"""The parts of a little service for the chassis' own tests: three tables (one append-only) and their database."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from services.chassis.calls.auth import Principal
from services.chassis.data import guards, leases, migrations, rights, steps, tables
from services.chassis.data.database import Database
from services.chassis.process.jobs import Found
from services.chassis.values.approval_policy import NO_POLICY, ApprovalPolicy
from tests.support.databases import adopt_proof_of_tests, connect, open_database
from tests.support.seals import SEALS

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ADMIN = Principal("admin-1", "admin", "org_1")
OTHER_ORG = Principal("admin-1", "admin", "org_2")

metadata = sa.MetaData()
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("note_id", sa.Text, primary_key=True),
    sa.Column("body", sa.Text, nullable=False, server_default="new"),
    sa.Column("size", sa.Integer, nullable=False, server_default="0"),
    sa.CheckConstraint("size >= 0", name="notes_size"),
)
facts = sa.Table(
    "facts",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("fact_id", sa.Text, primary_key=True),
)
work = sa.Table(
    "work",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("work_id", sa.Text, primary_key=True),
    *leases.lease_columns(),
)
tables.attach(metadata)
_EDITED = rights.both(insert=rights.EVERY, update=rights.EVERY, delete="It is a test.")
RIGHTS = {**rights.CHASSIS, "notes": _EDITED, "facts": rights.appended(), "work": _EDITED}

_numbers = itertools.count()


def fresh_name() -> str:
    return f"chassis_{os.getpid()}_{next(_numbers)}"


async def create(postgres: Any) -> SimpleNamespace:
    """A database with these tables, made as a service's first migration makes its own."""
    urls = postgres.create_database(fresh_name())
    engine = create_async_engine(urls.owner_url)
    async with engine.begin() as connection:
        await connection.run_sync(_migrate)
    await engine.dispose()
    await adopt_proof_of_tests(urls)
    return urls


def _migrate(connection: sa.Connection) -> None:
    op = Operations(MigrationContext.configure(connection, opts={"target_metadata": metadata}))
    connection.execute(sa.text("CREATE TABLE alembic_version (version_num text PRIMARY KEY)"))
    notes.create(connection)
    facts.create(connection)
    work.create(connection)
    steps.create_chassis_tables(op)
    guards.append_only(op, "facts")
    migrations.close(op, "chassis", RIGHTS)


@asynccontextmanager
async def opened(urls: SimpleNamespace, *, policy: ApprovalPolicy = NO_POLICY, **options: Any):
    """With options it has connections of its own, which end with it."""
    if options:
        database = Database(urls.app_url, urls.worker_url, "chassis", SEALS, **options)
    else:
        database = open_database(urls, "chassis")
    database.policy = policy
    try:
        yield database
    finally:
        await database.dispose()


def as_superuser(urls: SimpleNamespace):
    return connect(urls.admin_url)


async def find_no_work() -> Found:
    """For jobs that wait for none."""
    return Found([])


async def note_ids(database: Database, org_id: str | None = None) -> list[str]:
    """Of one organization, or of all."""
    async with database.begin(org_id) if org_id else database.begin_for_all() as tx:
        return list(await tx.scalars(sa.select(notes.c.note_id).order_by(notes.c.note_id)))


async def add_note(tx: Any, note_id: str, org_id: str = "org_1") -> None:
    await tx.execute(notes.insert().values(org_id=org_id, note_id=note_id))


async def until(condition: Callable[[], Awaitable[Any]] | Callable[[], Any], seconds: float = 60) -> Any:
    """Polls until the condition holds; its last value is in the failure."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        await asyncio.sleep(0.01)
