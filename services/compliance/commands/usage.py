"""What of a limit a transaction uses once it has moved: it gives it back, or takes it again."""

from __future__ import annotations

from typing import Any

from realco.type.v1.money_pb2 import Money

from services.chassis.calls.wire import from_timestamp
from services.chassis.data.transaction import Tx
from services.compliance.store.limits import save_counted, save_ended


async def count_transaction(tx: Tx, event: Any) -> None:
    await save_counted(tx, event.transaction.transaction_id, True, event.meta.aggregate_version)


async def count_arrived(tx: Tx, event: Any) -> None:
    """Another amount arrived than was decided on: that counts from now on."""
    transaction = event.transaction
    arrived_minor = transaction.amount.amount_minor
    await save_counted(tx, transaction.transaction_id, True, event.meta.aggregate_version, arrived_minor=arrived_minor)


async def uncount_transaction(tx: Tx, event: Any) -> None:
    """For what ended: a failure that an earlier attempt left behind says nothing any more."""
    transaction = event.transaction
    if transaction.direction != Money.Direction.IN:
        return  # no limit counts it
    usage = {
        "transaction_id": transaction.transaction_id,
        "party_id": transaction.party_id,
        "amount_minor": transaction.amount.amount_minor,
        "arrived_minor": None,
        "currency": transaction.amount.currency_code,
        "counted": False,
        "version": event.meta.aggregate_version,
        "counted_at": from_timestamp(transaction.create_time),
    }
    await save_ended(tx, usage)


async def uncount_unless_retryable(tx: Tx, event: Any) -> None:
    """What may be tried again keeps its part of the limit: otherwise that part could be spent twice."""
    if event.transaction.failure.retryable:
        await count_transaction(tx, event)
    else:
        await uncount_transaction(tx, event)
