"""What a ledger on PostgreSQL does without group commit, measured in the same run: two ways that are often taken.

- One PL/pgSQL call a transfer (baselines.sql): a round trip and a commit each.
- One transaction a posting: BEGIN, the locks, the rows and COMMIT are statements of the program.
Both keep balances and no more: no keys, no organizations, no holds, no events.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import asyncpg

from deploy.local.postgres import Postgres
from tests.performance import load
from tests.performance.measure import Results, run_callers

CALLERS = 32
_TABLES = Path(__file__).with_name("baselines.sql")
_LOCK = "SELECT account_id, balance, version FROM accounts WHERE account_id = ANY ($1) ORDER BY account_id FOR UPDATE"
_TRANSFER = "INSERT INTO transfers (from_account_id, to_account_id, amount) VALUES ($1, $2, $3) RETURNING transfer_id"
_ENTRY = (
    "INSERT INTO entries (transfer_id, account_id, amount, balance_before, balance_after, account_version)"
    " VALUES ($1, $2, $3, $4, $5, $6)"
)
_BALANCE = "UPDATE accounts SET balance = $2, version = $3 WHERE account_id = $1"

Transfer = tuple[str, str]  # from, to


class Baselines:
    """A database with that ledger: a thousand investors, and a thousand accounts that take in."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def prepare(cls, cluster: Postgres) -> Self:
        url = cluster.create_database("baselines").admin_url.replace("+asyncpg", "")
        pool = await asyncpg.create_pool(url, min_size=CALLERS, max_size=CALLERS)
        accounts = [f"{kind}-{n}" for kind in ("escrow", "investor") for n in range(load.SPREAD)]
        async with pool.acquire() as connection:
            await connection.execute(_TABLES.read_text())
            await connection.execute("INSERT INTO accounts (account_id) SELECT * FROM unnest($1::text[])", accounts)
            await connection.execute("VACUUM ANALYZE")
        return cls(pool)

    async def close(self) -> None:
        await self._pool.close()

    async def round(self, results: Results, count: int) -> None:
        for name in ("hot", "spread"):
            wanted = [(f"investor-{n % 1000}", f"escrow-{0 if name == 'hot' else n % 1000}") for n in range(count)]
            for title, transfer in (("one call a transfer", self._call), ("one transaction a posting", self._transact)):
                await self._pool.execute("CHECKPOINT")
                results.add(f"{title}, {name}", await run_callers(wanted, CALLERS, transfer))

    async def check(self) -> None:
        """Raises: AssertionError."""
        wrong = await self._pool.fetch(
            "SELECT account_id FROM accounts a WHERE balance <>"
            " (SELECT coalesce(sum(amount), 0) FROM entries e WHERE e.account_id = a.account_id)"
        )
        assert not wrong, f"a baseline's balance is not the sum of its entries: {wrong[0]}"

    async def _call(self, transfer: Transfer) -> None:
        await self._pool.execute("SELECT create_transfer($1, $2, $3)", *transfer, load.AMOUNT_MINOR)

    async def _transact(self, transfer: Transfer) -> None:
        debtor, creditor = transfer
        async with self._pool.acquire() as connection, connection.transaction():
            accounts = {row["account_id"]: row for row in await connection.fetch(_LOCK, transfer)}
            transfer_id = await connection.fetchval(_TRANSFER, debtor, creditor, load.AMOUNT_MINOR)
            for account_id, amount in ((debtor, -load.AMOUNT_MINOR), (creditor, load.AMOUNT_MINOR)):
                before, version = accounts[account_id]["balance"], accounts[account_id]["version"] + 1
                await connection.execute(_BALANCE, account_id, before + amount, version)
                await connection.execute(_ENTRY, transfer_id, account_id, amount, before, before + amount, version)
