"""PENDING_RETRY -> QUEUED when the time of the next attempt has come; FAILED where it must not be made any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.chassis.data.transaction import Tx
from services.transactions.commands.decisions import queue_again
from services.transactions.dependencies import ACTOR, Dependencies
from services.transactions.domain.transaction import Transaction
from services.transactions.jobs.batches import move_due
from services.transactions.jobs.obstacles import end_hopeless
from services.transactions.store import transactions as store


async def queue_retries(dependencies: Dependencies) -> int:
    return await move_due(dependencies, store.RETRY_DUE, _queue_rows)


async def _queue_rows(tx: Tx, rows: Sequence[Transaction], now: datetime) -> None:
    for row in await end_hopeless(tx, rows, now, {}):  # other services are asked when it starts
        await queue_again(tx, row, actor=ACTOR, now=now)
