"""A database that is restored from a backup, while the streams have all that was told since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

from services.chassis.data.migrate import begin_incarnation
from tests.support.databases import connect

_TABLES = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    " AND relname <> 'alembic_version'"
)


@asynccontextmanager
async def restored_to_here(urls: SimpleNamespace) -> AsyncIterator[None]:
    """What is written inside is in the database no more afterwards, which lives another life then."""
    async with connect(urls.admin_url) as admin:
        await admin.execute("SET session_replication_role = replica")  # a restore asks no trigger
        names = [row["relname"] for row in await admin.fetch(_TABLES)]
        backup = {name: await admin.fetchval(f"SELECT json_agg(t)::text FROM {name} t") for name in names}
        yield
        for name, rows in backup.items():
            await admin.execute(f"DELETE FROM {name}")
            if rows is not None:
                kept = f"SELECT * FROM json_populate_recordset(NULL::{name}, $1)"
                await admin.execute(f"INSERT INTO {name} OVERRIDING SYSTEM VALUE {kept}", rows)
    await begin_incarnation(urls.owner_url)
