"""Events in: parties and who acts for them, what the book says of contributions, what became of these and of payouts.

Each is applied once, in the transaction the consumer opened; the order of the streams does not matter.
"""

from __future__ import annotations

from typing import Any

from realco.compliance.v1 import events_pb2 as compliance_events
from realco.escrow.v1 import events_pb2 as escrow_events
from realco.transactions.v1 import events_pb2 as transactions_events
from realco.transactions.v1 import transactions_pb2 as transactions
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.events.consumer import Delivery, Subscription
from services.chassis.events.persons import record_persons_of
from services.distributions.commands.payouts.outcomes import is_payout, record_outcome
from services.distributions.commands.raises.contributions import record_contribution, record_entries
from services.distributions.domain.states import PayoutStatus


async def record_posted_entries(
    tx: AsyncConnection, event: escrow_events.JournalEntriesPosted, delivery: Delivery
) -> None:
    await record_entries(tx, event.escrow_account_id, event.journal_entries, delivery.now)


async def record_completed(
    tx: AsyncConnection, event: transactions_events.TransactionCompleted, delivery: Delivery
) -> None:
    await _record_end(tx, event, PayoutStatus.COMPLETED, delivery)


async def record_failed(tx: AsyncConnection, event: transactions_events.TransactionFailed, delivery: Delivery) -> None:
    await _record_end(tx, event, PayoutStatus.FAILED, delivery)


async def record_cancelled(
    tx: AsyncConnection, event: transactions_events.TransactionCancelled, delivery: Delivery
) -> None:
    await _record_end(tx, event, PayoutStatus.FAILED, delivery)


async def record_returned(
    tx: AsyncConnection, event: transactions_events.TransactionReturned, delivery: Delivery
) -> None:
    await _record_end(tx, event, PayoutStatus.RETURNED, delivery)


async def record_reversed(
    tx: AsyncConnection, event: transactions_events.TransactionReversed, delivery: Delivery
) -> None:
    await _record_end(tx, event, PayoutStatus.RETURNED, delivery)


async def _record_end(tx: AsyncConnection, event: Any, outcome: PayoutStatus, delivery: Delivery) -> None:
    transaction, version = event.transaction, event.meta.aggregate_version
    if is_payout(transaction):
        await record_outcome(tx, transaction, version, outcome, delivery.now)
    elif transaction.type == transactions.Transaction.ESCROW_DEPOSIT and transaction.investment_id:
        await record_contribution(tx, transaction, version, outcome is PayoutStatus.COMPLETED, delivery.now)


SUBSCRIPTIONS: tuple[Subscription, ...] = (
    Subscription(
        "distributions-on-compliance",
        {
            compliance_events.PartyCreated: record_persons_of,
            compliance_events.PartyPersonAdded: record_persons_of,
            compliance_events.PartyPersonRemoved: record_persons_of,
        },
    ),
    Subscription("distributions-on-escrow", {escrow_events.JournalEntriesPosted: record_posted_entries}),
    Subscription(
        "distributions-on-transactions",
        {
            transactions_events.TransactionCompleted: record_completed,
            transactions_events.TransactionFailed: record_failed,
            transactions_events.TransactionCancelled: record_cancelled,
            transactions_events.TransactionReturned: record_returned,
            transactions_events.TransactionReversed: record_reversed,
        },
    ),
)
