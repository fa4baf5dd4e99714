"""SETTLED -> COMPLETED when the return risk is over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.transactions.dependencies import ACTOR, Dependencies
from services.transactions.domain.schedule import compute_watch_ms
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.jobs.batches import move_due
from services.transactions.store import transactions as store


async def end_return_risk(dependencies: Dependencies) -> int:
    return await move_due(dependencies, store.RETURN_RISK_OVER, _complete_rows)


async def _complete_rows(tx: AsyncConnection, rows: Sequence[Transaction], now: datetime) -> None:
    note = "the return risk is over"
    for by_hand in (True, False):  # what a person confirmed has no provider that could be asked whether it came back
        group = [row for row in rows if row.rail.is_confirmed_by_a_person is by_hand]
        due_ms = None if by_hand else compute_watch_ms(0)
        await store.save_moves(tx, group, Status.COMPLETED, actor=ACTOR, now=now, note=note, due_ms=due_ms)
