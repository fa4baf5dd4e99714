"""Events in: what the book says of contributions, and what became of contributions and payouts on the rails.

Each is applied once, in the transaction the consumer opened; the order of the two streams does not matter.
"""

from __future__ import annotations

from realco.escrow.v1 import events_pb2 as escrow_events
from realco.transactions.v1 import events_pb2 as transactions_events
from realco.transactions.v1 import transactions_pb2 as transactions
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.events.consumer import Delivery, Subscription
from services.distributions.commands import investments, payouts
from services.distributions.commands.payouts import Outcome

_Type = transactions.Transaction
_PAYOUTS = (_Type.DISTRIBUTION, _Type.ESCROW_WITHDRAWAL, _Type.REFUND)


async def entries_posted(tx: AsyncConnection, event: escrow_events.JournalEntriesPosted, delivery: Delivery) -> None:
    await investments.book(tx, event.escrow_account_id, list(event.journal_entries), delivery.now)


async def completed(tx: AsyncConnection, event: transactions_events.TransactionCompleted, delivery: Delivery) -> None:
    await _ended(tx, event.transaction, Outcome.COMPLETED, delivery)


async def failed(tx: AsyncConnection, event: transactions_events.TransactionFailed, delivery: Delivery) -> None:
    await _ended(tx, event.transaction, Outcome.FAILED, delivery)


async def cancelled(tx: AsyncConnection, event: transactions_events.TransactionCancelled, delivery: Delivery) -> None:
    await _ended(tx, event.transaction, Outcome.FAILED, delivery)


async def returned(tx: AsyncConnection, event: transactions_events.TransactionReturned, delivery: Delivery) -> None:
    await _ended(tx, event.transaction, Outcome.RETURNED, delivery)


async def reversed_(tx: AsyncConnection, event: transactions_events.TransactionReversed, delivery: Delivery) -> None:
    await _ended(tx, event.transaction, Outcome.RETURNED, delivery)


async def _ended(
    tx: AsyncConnection, transaction: transactions.Transaction, outcome: Outcome, delivery: Delivery
) -> None:
    if transaction.type in _PAYOUTS:
        await payouts.told(tx, transaction, outcome, delivery.now)
    elif transaction.type == _Type.ESCROW_DEPOSIT and transaction.investment_id:
        await investments.count_contribution(tx, transaction, outcome is Outcome.COMPLETED, delivery.now)


SUBSCRIPTIONS: tuple[Subscription, ...] = (
    Subscription("distributions-on-escrow", {escrow_events.JournalEntriesPosted: entries_posted}),
    Subscription(
        "distributions-on-transactions",
        {
            transactions_events.TransactionCompleted: completed,
            transactions_events.TransactionFailed: failed,
            transactions_events.TransactionCancelled: cancelled,
            transactions_events.TransactionReturned: returned,
            transactions_events.TransactionReversed: reversed_,
        },
    ),
)
