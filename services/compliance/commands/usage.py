"""What of a limit a transaction uses once it has moved: it gives it back, or takes it again."""

from __future__ import annotations

from typing import Any

from services.chassis.data.transaction import Tx
from services.compliance.store.limits import save_counted


async def count_transaction(tx: Tx, event: Any) -> None:
    await save_counted(tx, event.transaction.transaction_id, True, event.meta.aggregate_version)


async def uncount_transaction(tx: Tx, event: Any) -> None:
    """For what ended: a failure that an earlier attempt left behind says nothing any more."""
    await save_counted(tx, event.transaction.transaction_id, False, event.meta.aggregate_version)


async def uncount_unless_retryable(tx: Tx, event: Any) -> None:
    """What may be tried again keeps its part of the limit: otherwise that part could be spent twice."""
    transaction = event.transaction
    await save_counted(tx, transaction.transaction_id, transaction.failure.retryable, event.meta.aggregate_version)
