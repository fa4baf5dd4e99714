"""Reads of exceptions and of return rates: SQL to proto."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from realco.transactions.v1 import (
    exceptions_pb2,
    return_rates_pb2,
)

from services.chassis.data.paging import one_of, read_list, read_page
from services.chassis.data.reach import is_mine
from services.chassis.data.transaction import Tx
from services.transactions import messages
from services.transactions.actions import (
    answer_payment_exception,
)
from services.transactions.domain.exceptions import KINDS
from services.transactions.store.exceptions import EXCEPTIONS, is_of_accounts, read_involved, require_exception
from services.transactions.store.return_rates import find_return_rates
from services.transactions.tables.exceptions import payment_exception_history, payment_exceptions

_x = payment_exceptions.c


async def get_payment_exception(
    tx: Tx, request: exceptions_pb2.GetPaymentExceptionRequest, now: datetime
) -> exceptions_pb2.PaymentException:
    """Raises: PaymentExceptionNotFound, NotSealed."""
    found = await require_exception(tx, request.payment_exception_id)
    return answer_payment_exception(found, await read_involved(tx, found))


async def list_payment_exceptions(
    tx: Tx, request: exceptions_pb2.ListPaymentExceptionsRequest, now: datetime
) -> exceptions_pb2.ListPaymentExceptionsResponse:
    kinds, statuses = exceptions_pb2.PaymentException.Kind, exceptions_pb2.PaymentException.Status
    wanted = {exceptions_pb2.PaymentException.Severity.Name(each) for each in request.severity}
    so_grave = [kind.value for kind, each in KINDS.items() if each.severity.value in wanted]
    statement = EXCEPTIONS.select().where(
        *one_of(_x.payment_exception_id, request.ids),
        *one_of(_x.kind, [kinds.Name(each) for each in request.kind]),
        *one_of(_x.kind, so_grave),
        *one_of(_x.status, [statuses.Name(each) for each in request.status]),
        *one_of(_x.assignee, request.assignee),
        *one_of(_x.transaction_id, request.transaction_id),
        *one_of(_x.party_id, request.party_id),
    )
    if request.escrow_account_id:
        statement = statement.where(
            sa.or_(is_of_accounts(request.escrow_account_id), _x.escrow_account_id.in_(request.escrow_account_id))
        )
    if request.HasField("unassigned"):
        statement = statement.where(_x.assignee.is_(None) if request.unassigned else _x.assignee.is_not(None))
    page = await read_list(tx, request, statement, _x.created_at, _x.payment_exception_id)
    return exceptions_pb2.ListPaymentExceptionsResponse(
        payment_exceptions=EXCEPTIONS.show_all(tx, page.rows, messages.to_payment_exception),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def get_ach_return_rates(
    tx: Tx, request: return_rates_pb2.GetAchReturnRatesRequest, now: datetime
) -> return_rates_pb2.AchReturnRates:
    """Raises: NotSealed."""
    return messages.to_return_rates(await find_return_rates(tx))


async def list_payment_exception_status_changes(
    tx: Tx, request: exceptions_pb2.ListPaymentExceptionStatusChangesRequest, now: datetime
) -> exceptions_pb2.ListPaymentExceptionStatusChangesResponse:
    """Raises: PaymentExceptionNotFound, NotSealed."""
    await require_exception(tx, request.payment_exception_id)
    h = payment_exception_history.c
    changes = sa.select(payment_exception_history).where(
        is_mine(payment_exception_history), h.payment_exception_id == request.payment_exception_id
    )
    page = await read_page(tx, request, changes, [h.version], descending=False)
    return exceptions_pb2.ListPaymentExceptionStatusChangesResponse(
        status_changes=map(messages.to_exception_status_change, page.rows),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )
