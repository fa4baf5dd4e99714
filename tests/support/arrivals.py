"""Wires and checks: how they are announced, and what people say of what the bank did."""

from __future__ import annotations

from typing import Any

from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.auth import Principal
from services.chassis.values.ids import new_id
from services.transactions.domain.reported_returns import RETURN_KINDS
from tests.support.transactions import ADMIN, CHECKER, ORG, TransactionsHarness, usd

THIRD = Principal("admin-3", "admin", ORG)


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


async def correct(
    service: TransactionsHarness, read: Any, amount: int | Money, by: Principal = THIRD
) -> pb.Transaction:
    said = {"transaction_id": read.transaction_id, "etag": read.etag, "note": "The bank kept a fee."}
    request = pb.CorrectTransactionAmountRequest(
        idempotency_key=new_id("key"), amount=usd(amount) if isinstance(amount, int) else amount, **said
    )
    return await service.ask(by, "CorrectTransactionAmount", request)


async def report(service: TransactionsHarness, of: Any, kind: str = "CHECK_RETURNED", **more: Any) -> Any:
    """Admin-1 asks for it; the approval that waits."""
    of_the_bank = {"bank_reference": "RET-1"} if RETURN_KINDS[kind].is_of_the_bank else {}
    said = {"transaction_id": of.transaction_id, "kind": kind, "note": "Says the bank.", **of_the_bank}
    request = pb.RecordTransactionReturnRequest(idempotency_key=new_id("key"), **said | more)
    return (await service.ask(ADMIN, "RecordTransactionReturn", request)).approval
