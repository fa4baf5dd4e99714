"""Exceptions for tests: reported, listed and counted."""

from __future__ import annotations

from typing import Any

from realco.transactions.v1 import exceptions_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.values.ids import new_id
from services.transactions.commands.exceptions import report_apart
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.store.exception_reports import EXCEPTIONS_FOUND
from tests.support.transactions import ADMIN, ORG, TransactionsHarness


async def report_twice(service: TransactionsHarness, transaction_id: str, times: int = 1) -> list[Any]:
    """Two payments for one order are found, so many times; what is listed then."""
    for _ in range(times):
        about = About(transaction_id=transaction_id)
        await report_apart(service.dependencies, ORG, ExceptionKind.PAID_TWICE, about, "Two payments.")
    return await list_exceptions(service, kind=["PAID_TWICE"], transaction_id=[transaction_id])


async def list_exceptions(service: TransactionsHarness, principal: Principal = ADMIN, **filters: Any) -> list[Any]:
    answer = await service.ask(principal, "ListPaymentExceptions", pb.ListPaymentExceptionsRequest(**filters))
    return list(answer.payment_exceptions)


async def resolve(service: TransactionsHarness, found: Any, note: str, by: Principal = ADMIN) -> Any:
    request = pb.ResolvePaymentExceptionRequest(
        idempotency_key=new_id("key"), payment_exception_id=found.payment_exception_id, etag=found.etag, note=note
    )
    return await service.ask(by, "ResolvePaymentException", request)


def count_found(kind: ExceptionKind) -> float:
    """How often this process has found one of the kind."""
    return float(EXCEPTIONS_FOUND.labels(kind.value)._value.get())
