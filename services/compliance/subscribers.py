"""Which command each event of a transaction is for: what it uses of a limit is given back, or counted otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from realco.transactions.v1 import events_pb2 as transactions

from services.chassis.data.transaction import Tx
from services.chassis.events.handling import Delivery, Subscription
from services.compliance.commands.usage import (
    count_arrived,
    count_transaction,
    uncount_transaction,
    uncount_unless_retryable,
)


def _handle(command: Callable[[Tx, Any], Awaitable[None]]) -> Any:
    async def handle(tx: Tx, event: Any, delivery: Delivery) -> None:
        await command(tx, event)

    return handle


def _brought_another_amount(event: Any) -> bool:
    return bool(event.transaction.HasField("announced_amount"))


SUBSCRIPTIONS = (
    Subscription(
        consumer="compliance-on-transactions",
        handlers={
            transactions.TransactionSettled: _handle(count_arrived),
            transactions.TransactionFailed: _handle(uncount_unless_retryable),
            transactions.TransactionCancelled: _handle(uncount_transaction),
            transactions.TransactionReturned: _handle(uncount_unless_retryable),
            transactions.TransactionReversed: _handle(uncount_transaction),
            transactions.TransactionRetryScheduled: _handle(count_transaction),
        },
        concerns={transactions.TransactionSettled: _brought_another_amount},
        is_about_money=False,  # what is left of a limit may be too little or too much; no amount is wrong
    ),
)
