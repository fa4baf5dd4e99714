"""Events in: what became of transactions, each booked once, in the transaction the consumer opened."""

from __future__ import annotations

from typing import Any

from realco.transactions.v1 import events_pb2 as transactions

from services.chassis.calls.wire import from_timestamp
from services.chassis.data.transaction import Tx
from services.chassis.events.handling import Delivery, Handler, Subscription
from services.escrow.commands.provider_fees import book_provider_fee
from services.escrow.commands.stages import book_stage, end_return_risk, follow_dispute
from services.escrow.domain.stages import Stage


def _make_handler(stage: Stage) -> Handler:
    async def handle(tx: Tx, event: Any, delivery: Delivery) -> None:
        await book_stage(tx, stage, event.transaction, from_timestamp(event.meta.occur_time), delivery.now)

    return handle


async def _settle(tx: Tx, event: Any, delivery: Delivery) -> None:
    occurred_at = from_timestamp(event.meta.occur_time)
    await book_stage(tx, Stage.SETTLED, event.transaction, occurred_at, delivery.now)
    await book_provider_fee(tx, event.transaction, event.meta.aggregate_version, occurred_at, delivery.now)


async def _end_return_risk(tx: Tx, event: Any, delivery: Delivery) -> None:
    await end_return_risk(tx, event.transaction, delivery.now)


async def _follow_change(tx: Tx, event: Any, delivery: Delivery) -> None:
    await follow_dispute(tx, event.transaction, delivery.now)
    occurred_at = from_timestamp(event.meta.occur_time)
    await book_provider_fee(tx, event.transaction, event.meta.aggregate_version, occurred_at, delivery.now)


SUBSCRIPTIONS = (
    Subscription(
        consumer="escrow-on-transactions",
        handlers={
            transactions.TransactionSubmitted: _make_handler(Stage.SUBMITTED),
            transactions.TransactionSettled: _settle,
            transactions.TransactionFailed: _make_handler(Stage.ENDED),
            transactions.TransactionCancelled: _make_handler(Stage.ENDED),
            transactions.TransactionReturned: _make_handler(Stage.RETURNED),
            transactions.TransactionReversed: _make_handler(Stage.RETURNED),
            transactions.TransactionCompleted: _end_return_risk,
            transactions.TransactionUpdated: _follow_change,
        },
        is_about_money=True,
    ),
)
