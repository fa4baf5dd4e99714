"""What compliance does when a transaction moved: give back the limit it used, or count it again."""

from __future__ import annotations

from typing import Any

from realco.transactions.v1 import events_pb2 as transactions
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.events.consumer import Delivery, Subscription
from services.compliance.store.limits import save_counted


async def _uncount_unless_retryable(tx: AsyncConnection, event: Any, delivery: Delivery) -> None:
    transaction = event.transaction
    # What may be tried again keeps its part of the limit: otherwise that part could be spent twice.
    await save_counted(tx, transaction.transaction_id, transaction.failure.retryable, event.meta.aggregate_version)


async def _uncount(tx: AsyncConnection, event: Any, delivery: Delivery) -> None:
    """For what ended: a failure that an earlier attempt left behind says nothing any more."""
    transaction = event.transaction
    await save_counted(tx, transaction.transaction_id, False, event.meta.aggregate_version)


async def _count(tx: AsyncConnection, event: Any, delivery: Delivery) -> None:
    transaction = event.transaction
    await save_counted(tx, transaction.transaction_id, True, event.meta.aggregate_version)


SUBSCRIPTIONS = (
    Subscription(
        durable="compliance-on-transactions",
        handlers={
            transactions.TransactionFailed: _uncount_unless_retryable,
            transactions.TransactionCancelled: _uncount,
            transactions.TransactionReturned: _uncount_unless_retryable,
            transactions.TransactionReversed: _uncount,
            transactions.TransactionRetryScheduled: _count,
        },
    ),
)
