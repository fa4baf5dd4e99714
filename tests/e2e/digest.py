"""What the four databases hold, table by table, so that "nothing changed" is one comparison."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import asyncpg

from demo.harness.polling import wait_for
from deploy.local.instance import Instance
from deploy.topology import SERVICE_NAMES

# A refusal about the business is remembered under its key (handled_requests), and consumers note by and by what they
# heard of earlier stories (handled_events, handled_positions); that the book was looked at is no change of it, nor is
# that an event was set aside (dead_letters), nor that a job made the vault's next key, which is due once the clock was
# moved. Everything else must stay as it is.
_HOUSEKEEPING = (
    *("handled_requests", "handled_events", "handled_positions", "dead_letters"),
    *("leaders", "book_checks", "vault_keys", "alembic_version"),
)
# How often and until when a job looked at a row: no fact of the business.
_HOUSEKEEPING_COLUMNS = ("due_at", "lease_until", "epoch", "tries", "published_at")

_SETTLED_SECONDS = 3.0

Digest = dict[str, tuple[int, str]]
# By the folder of an instance, as it was when its jobs last had nothing left to do.
_settled: dict[Path, Digest] = {}


def digest(instance: Instance) -> Digest:
    """`service.table` -> (rows, hash of all of them)."""
    return asyncio.run(_digest(instance))


def digest_when_settled(instance: Instance) -> Digest:
    """The same, once the jobs of earlier stories have nothing left to do: nothing changes for longer than a job waits
    before it asks a provider again, or this one agrees with what was settled before.
    """
    last, since = digest(instance), time.monotonic()
    if last == _settled.get(instance.data_dir):
        return last

    def has_settled() -> bool:
        nonlocal last, since
        if (seen := digest(instance)) != last:
            last, since = seen, time.monotonic()
        return time.monotonic() - since > _SETTLED_SECONDS

    wait_for("the jobs to have nothing left to do", has_settled, lambda settled: settled)
    _settled[instance.data_dir] = last
    return last


async def _digest(instance: Instance) -> Digest:
    found: Digest = {}
    for service in SERVICE_NAMES:
        connection = await asyncpg.connect(instance.database_url(service))
        try:
            for (table,) in await connection.fetch(
                "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = 'public' AND c.relkind = 'r' AND c.relname <> ALL($1) ORDER BY 1",
                list(_HOUSEKEEPING),
            ):
                row = await connection.fetchrow(
                    "SELECT count(*), coalesce(md5(string_agg(line, '' ORDER BY line)), '')"
                    f' FROM (SELECT md5((to_jsonb(t) - $1::text[])::text) AS line FROM "{table}" t) lines',
                    list(_HOUSEKEEPING_COLUMNS),
                )
                found[f"{service}.{table}"] = (row[0], row[1])
        finally:
            await connection.close()
    return found
