"""PROVISIONAL -> FINAL when the bank can no longer send the money back: a change like any other, so it is published."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.transactions.dependencies import ACTOR, Dependencies
from services.transactions.domain.transaction import Transaction
from services.transactions.jobs.batches import move_due
from services.transactions.store import transactions as store


async def make_final(dependencies: Dependencies) -> int:
    return await move_due(dependencies, store.FINALITY_DUE, _make_rows_final)


async def _make_rows_final(tx: AsyncConnection, rows: Sequence[Transaction], now: datetime) -> None:
    await store.save_final(tx, rows, actor=ACTOR, now=now)
