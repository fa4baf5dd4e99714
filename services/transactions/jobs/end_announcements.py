"""PENDING_SETTLEMENT -> CANCELLED of what was announced and has not come: it would use up limits for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.chassis.data.transaction import Tx
from services.chassis.values.failure import Failure
from services.transactions.dependencies import ACTOR, Dependencies
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.jobs.batches import move_due
from services.transactions.store import moves
from services.transactions.store import transactions as store
from services.transactions.store.moves import Step


async def end_announcements(dependencies: Dependencies) -> int:
    return await move_due(dependencies, store.ANNOUNCEMENT_DUE, _cancel_rows)


async def _cancel_rows(tx: Tx, rows: Sequence[Transaction], now: datetime) -> None:
    message = "Nobody has said in time that it came: whoever sends it after all announces it anew."
    failure = Failure("ANNOUNCEMENT_EXPIRED", message, retryable=False)
    step = Step(Status.CANCELLED, message, changes={"failure": failure})
    await moves.save_steps(tx, rows, step, actor=ACTOR, now=now)
