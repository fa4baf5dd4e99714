"""Postings in process, beside COPY of the very same rows into tables with the same indexes and checks.

- The entries are made before the clock runs, as COPY's rows are: what is measured is the booking.
- COPY has none of the triggers, locks, verdicts, balances, answers and events that a posting has: it is the limit.
- Both sides hold the same rows all the time, so both fill the same indexes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from typing import Any, Self

import asyncpg

from deploy.local.postgres import Postgres
from deploy.local.programs import ROOT
from services.chassis.data.database import Database
from services.chassis.data.session_proof import adopt_session_proof
from services.chassis.values.clock import SystemClock
from services.chassis.values.ids import new_id
from services.escrow.domain.chart import CASH, LedgerAccountKind, account_of_party
from services.escrow.domain.journal import EntryType, NewEntry, build_key, credit, debit
from services.escrow.posting.group_commit import Poster
from tests.performance import load
from tests.performance.copying import Rows, copy
from tests.performance.measure import Results, Sample, run_callers
from tests.support.seals import SEALS

CALLERS = 2000
_TABLES = ("journal_entries", "ledger_entries")


def entry(number: int, account: int, investor: int) -> NewEntry:
    """A contribution: two legs."""
    return NewEntry(
        org_id=load.ORG,
        escrow_account_id=load.escrow_account_id(account),
        journal_entry_id=new_id("je"),
        key=build_key("bench", uuid.uuid4().hex, body=number.to_bytes(8, "big")),
        type=EntryType.DEPOSIT,
        description="Contribution",
        legs=(
            debit(CASH, load.AMOUNT_MINOR),
            credit(account_of_party(LedgerAccountKind.SUBSCRIPTION, load.investor_id(investor)), load.AMOUNT_MINOR),
        ),
        created_by="admin-1",
    )


def hot(count: int) -> list[NewEntry]:
    return [entry(n, load.HOT, n % load.INVESTORS) for n in range(count)]


def spread(count: int) -> list[NewEntry]:
    return [entry(n, n % load.SPREAD + 1, 0) for n in range(count)]


class Bench:
    """A book of its own, its poster, and the clones that COPY writes to."""

    def __init__(self, database: Database, admin: asyncpg.Connection) -> None:
        self._database = database
        self._admin = admin
        self._poster = Poster(database, SystemClock())
        self._columns: dict[str, list[str]] = {}
        self._copied: dict[str, int] = {}

    @classmethod
    async def prepare(cls, cluster: Postgres, scale: int) -> Self:
        urls = cluster.create_database("escrow")
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "services.chassis.data.migrate", "escrow"],
            env=os.environ | {"MIGRATION_DATABASE_URL": urls.owner_url},
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        admin = await asyncpg.connect(urls.admin_url.replace("+asyncpg", ""))
        await load.load_book(admin, SEALS, scale)
        database = Database(urls.app_url, urls.worker_url, "escrow", SEALS)
        await adopt_session_proof(database)  # as the first start of a service does
        bench = cls(database, admin)
        await bench._post(spread(1000))  # connections, plans and caches; not measured
        await bench._clone()
        return bench

    async def close(self) -> None:
        await self._poster.drain()
        await self._database.dispose()
        await self._admin.close()

    async def round(self, results: Results, count: int) -> None:
        """Each kind of posting, and COPY of the rows it left."""
        for name, entries in (("hot", hot(count)), ("spread", spread(count))):
            results.add(f"in process, {name}", await self._post(entries))
            results.add(f"COPY, {name}", await self._copy())

    async def check(self) -> None:
        """The books tie out after all that. Raises: AssertionError."""
        wrong = await self._admin.fetch(_WRONG)
        assert not wrong, f"a balance is not the sum of its entries: {wrong[0]}"
        for table in _TABLES:
            counts = await self._admin.fetchrow(f"SELECT (SELECT count(*) FROM {table}) = count(*) FROM copy_{table}")
            assert counts == (True,), f"COPY wrote other rows of {table} than the poster"

    async def _post(self, entries: list[NewEntry]) -> Sample:
        await self._admin.execute("CHECKPOINT")  # both sides begin alike: every page they touch goes to the log whole
        return await run_callers(entries, min(CALLERS, len(entries)), self._poster.post_one)

    async def _clone(self) -> None:
        await self._admin.execute("SET max_parallel_workers_per_gather = 0")  # rows come as they lie
        for table in _TABLES:
            await self._admin.execute(f"CREATE TABLE copy_{table} (LIKE {table} INCLUDING ALL)")
            await self._admin.execute(f"INSERT INTO copy_{table} SELECT * FROM {table}")
            rows = await self._admin.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped"
                " AND attname <> 'created_xid' ORDER BY attnum",
                table,
            )
            self._columns[table] = [row[0] for row in rows]
            self._copied[table] = await self._admin.fetchval(f"SELECT count(*) FROM {table}")
        await self._admin.execute("VACUUM ANALYZE")

    async def _copy(self) -> Sample:
        entries, legs = [await self._new_rows(table) for table in _TABLES]
        columns = self._columns
        parts = [
            Rows(f"copy_{table}", columns[table], rows) for table, rows in zip(_TABLES, (entries, legs), strict=True)
        ]
        return await copy(self._admin, len(entries), parts)

    async def _new_rows(self, table: str) -> list[Any]:
        """What was posted since the last COPY, in the order it lies in."""
        columns = ", ".join(self._columns[table])
        rows = await self._admin.fetch(f"SELECT {columns} FROM {table} OFFSET $1", self._copied[table])
        self._copied[table] += len(rows)
        return [tuple(row) for row in rows]


_WRONG = """
SELECT a.escrow_account_id, a.kind, a.party_id, a.debits_posted - a.credits_posted AS kept, l.booked
FROM ledger_accounts a
LEFT JOIN LATERAL (
    SELECT coalesce(sum(CASE WHEN debit THEN amount_minor ELSE -amount_minor END), 0)::bigint AS booked
    FROM ledger_entries l WHERE l.account_no = a.account_no
) l ON true
WHERE a.debits_posted - a.credits_posted <> l.booked
"""
