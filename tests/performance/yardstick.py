"""The fixed limit of postings: COPY of rows that never change (yardstick.sql), as many and as the book has them.

COPY of the book's own rows (postings.py) is easier to reach with every column that the book gains; this is not.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import asyncpg

from deploy.local.postgres import Postgres
from services.chassis.values.ids import new_id
from tests.performance import load
from tests.performance.copying import Rows, copy
from tests.performance.measure import Results

_TABLES = Path(__file__).with_name("yardstick.sql")
_LOADED_AT_ONCE = 10_000
_ENTRY = (
    *("org_id", "escrow_account_id", "sequence", "journal_entry_id", "request_key", "fingerprint", "kind"),
    *("description", "n_legs", "effective_at", "created_at", "actor"),
)
_LEG = (
    *("org_id", "escrow_account_id", "ledger_account", "sequence", "journal_sequence", "leg", "direction", "layer"),
    *("amount_minor", "posted_after", "pending_after", "effective_at", "created_at"),
)


class Yardstick:
    """A database with these tables, and the numbers of the postings in it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._numbers: Counter[tuple[int, str]] = (
            Counter()
        )  # by escrow account and ledger account; the entries' under ""

    @classmethod
    async def prepare(cls, cluster: Postgres, scale: int) -> Self:
        """It holds as many entries as the book."""
        url = cluster.create_database("yardstick").admin_url
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        await connection.execute(_TABLES.read_text())
        yardstick = cls(connection)
        for hot in (True, False):
            for first in range(0, scale, _LOADED_AT_ONCE):
                count = min(_LOADED_AT_ONCE, scale - first)
                await copy(connection, count, yardstick._build(count, hot=hot, first=first))
        await connection.execute("VACUUM ANALYZE")
        return yardstick

    async def close(self) -> None:
        await self._connection.close()

    async def round(self, results: Results, count: int) -> None:
        for name in ("hot", "spread"):
            rows = self._build(count, hot=name == "hot")
            results.add(f"yardstick, {name}", await copy(self._connection, count, rows))

    def _build(self, count: int, *, hot: bool, first: int = 0) -> list[Rows]:
        """Contributions of two legs, as postings.py makes them."""
        entries: list[tuple[Any, ...]] = []
        legs: list[tuple[Any, ...]] = []
        now = datetime.now(UTC)
        for number in range(first, first + count):
            account = load.HOT if hot else number % load.SPREAD + 1
            investor = load.investor_id(number % load.INVESTORS if hot else 0)
            of = load.ORG, load.escrow_account_id(account)
            sequence, key = self._next(account, ""), uuid.uuid4()
            fingerprint = hashlib.sha256(key.bytes).digest()
            entries.append(
                (*of, sequence, new_id("je"), key, fingerprint, "DEPOSIT", "Contribution", 2, now, now, "admin-1")
            )
            for leg, ledger_account, direction in ((1, "cash", "DEBIT"), (2, f"subscription:{investor}", "CREDIT")):
                of_leg = self._next(account, ledger_account)
                what = leg, direction, "POSTED", load.AMOUNT_MINOR, of_leg * load.AMOUNT_MINOR, 0, now, now
                legs.append((*of, ledger_account, of_leg, sequence, *what))
        return [Rows("journal_entries", _ENTRY, entries), Rows("ledger_entries", _LEG, legs)]

    def _next(self, account: int, ledger_account: str) -> int:
        self._numbers[account, ledger_account] += 1
        return self._numbers[account, ledger_account]
