"""Events in: parties and who acts for them, what the book says of contributions, what became of these and of payouts.

Each is applied once, in the transaction the consumer opened; the order of the streams does not matter.
"""

from __future__ import annotations

from typing import Any

from realco.compliance.v1 import events_pb2 as compliance_events
from realco.escrow.v1 import events_pb2 as escrow_events
from realco.transactions.v1 import events_pb2 as transactions_events

from services.chassis.data.transaction import Tx
from services.chassis.events.handling import Delivery, Handler, Subscription
from services.chassis.events.persons import record_persons_of
from services.distributions.commands.payouts.outcomes import is_payout, record_outcome
from services.distributions.commands.raises.contributions import (
    is_contribution,
    is_of_disputed_contribution,
    record_contribution,
    record_entries,
)
from services.distributions.domain.states import PayoutStatus


async def record_posted_entries(tx: Tx, event: escrow_events.JournalEntriesPosted, delivery: Delivery) -> None:
    await record_entries(tx, event, delivery.now)


def _make_handler(payout_status: PayoutStatus) -> Handler:
    """Of an event that ends a transaction: a contribution, or a payout of ours, which then has this status."""

    async def record_end(tx: Tx, event: Any, delivery: Delivery) -> None:
        transaction, version = event.transaction, event.meta.aggregate_version
        if is_contribution(transaction):
            await record_contribution(tx, transaction, version, delivery.now)
        elif is_payout(transaction):
            await record_outcome(tx, transaction, version, payout_status, delivery.now)

    return record_end


async def record_dispute(tx: Tx, event: transactions_events.TransactionUpdated, delivery: Delivery) -> None:
    await record_contribution(tx, event.transaction, event.meta.aggregate_version, delivery.now)


SUBSCRIPTIONS: tuple[Subscription, ...] = (
    Subscription(
        "distributions-on-compliance",
        {
            compliance_events.PartyCreated: record_persons_of,
            compliance_events.PartyPersonAdded: record_persons_of,
            compliance_events.PartyPersonRemoved: record_persons_of,
        },
        is_about_money=False,
    ),
    Subscription(
        "distributions-on-escrow",
        {escrow_events.JournalEntriesPosted: record_posted_entries},
        is_about_money=True,
    ),
    Subscription(
        "distributions-on-transactions",
        {
            transactions_events.TransactionCompleted: _make_handler(PayoutStatus.COMPLETED),
            transactions_events.TransactionFailed: _make_handler(PayoutStatus.FAILED),
            transactions_events.TransactionCancelled: _make_handler(PayoutStatus.FAILED),
            transactions_events.TransactionReturned: _make_handler(PayoutStatus.RETURNED),
            transactions_events.TransactionReversed: _make_handler(PayoutStatus.RETURNED),
            transactions_events.TransactionUpdated: record_dispute,
        },
        is_about_money=True,
        concerns={transactions_events.TransactionUpdated: is_of_disputed_contribution},
    ),
)
