"""Batches of transactions for tests: many of one, and what became of each as a word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.values.ids import new_id
from tests.support.transactions import TransactionsHarness


def vary(request: pb.CreateTransactionRequest, **changes: Any) -> pb.CreateTransactionRequest:
    """The same under a key of its own, but for what is changed; None takes a field away."""
    values = {field.name: value for field, value in request.ListFields()} | {"idempotency_key": new_id("key")}
    return pb.CreateTransactionRequest(**values | changes)


async def create(
    service: TransactionsHarness, principal: Principal, items: Iterable[pb.CreateTransactionRequest], **more: Any
) -> Sequence[pb.TransactionResult]:
    request = pb.BatchCreateTransactionsRequest(items=items, **more)
    answer = await service.ask(principal, "BatchCreateTransactions", request)
    return list(answer.results)


async def cancel(
    service: TransactionsHarness, principal: Principal, items: Iterable[pb.CancelTransactionRequest], **more: Any
) -> Sequence[pb.TransactionResult]:
    request = pb.BatchCancelTransactionsRequest(items=items, **more)
    answer = await service.ask(principal, "BatchCancelTransactions", request)
    return list(answer.results)


def name_outcomes(results: Iterable[pb.TransactionResult]) -> list[str]:
    """The status of what was made, or the code of the refusal."""
    return [
        pb.Transaction.Status.Name(each.transaction.status) if each.HasField("transaction") else each.failure.code
        for each in results
    ]


async def count_stored(service: TransactionsHarness, principal: Principal) -> int:
    request = pb.ListTransactionsRequest(page_size=1000)
    return len((await service.ask(principal, "ListTransactions", request)).transactions)
