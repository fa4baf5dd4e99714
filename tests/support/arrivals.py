"""Wires and checks: how they are announced, and what a person says once the bank has brought the money."""

from __future__ import annotations

from typing import Any

from realco.transactions.v1 import transactions_pb2 as pb

from tests.support.transactions import ADMIN, CHECKER, TransactionsHarness


async def announce(service: TransactionsHarness, method: int = pb.Transaction.WIRE, **more: Any) -> Any:
    """One that waits for its money."""
    request = await service.deposit_request(payment_method=method, bank_account_id=None, **more)
    made = await service.ask(ADMIN, "CreateTransaction", request)
    await service.work()
    return await service.get(made.transaction_id)


def build_arrival(read: Any, reference: str = "FED-1", **more: Any) -> pb.ConfirmTransactionRequest:
    """That it arrived as it was announced, unless more is said."""
    said = {"transaction_id": read.transaction_id, "etag": read.etag, "amount": read.amount}
    return pb.ConfirmTransactionRequest(**said | {"bank_reference": reference} | more)


async def confirm(service: TransactionsHarness, read: Any, reference: str = "FED-1", **more: Any) -> Any:
    return await service.ask(CHECKER, "ConfirmTransaction", build_arrival(read, reference, **more))
