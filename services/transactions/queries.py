"""Reads: SQL to proto, past the domain."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.transactions.v1 import (
    bank_accounts_pb2,
    evaluations_pb2,
    exceptions_pb2,
    payouts_pb2,
    return_rates_pb2,
    transactions_pb2,
    unfinished_pb2,
    webhooks_pb2,
)

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_explanation
from services.chassis.data.aggregates import is_large
from services.chassis.data.listings import Listing, read_time_bounds, time_bounds
from services.chassis.data.paging import one_of, read_list, read_page
from services.chassis.data.reach import is_mine, within_reach
from services.chassis.data.reads import Read, Reader, Source, fetch_row, fetch_rows
from services.chassis.data.seals import NotSealed, check_row, keep_sealed
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import with_version
from services.chassis.values.explanation import Explanation
from services.chassis.values.refusals import BankAccountNotFound
from services.transactions import messages
from services.transactions.actions import (
    answer_bank_account,
    answer_payment_exception,
    answer_transaction,
    answer_webhook,
)
from services.transactions.commands.approvals import find_approval
from services.transactions.commands.exceptions import read_involved
from services.transactions.domain.decisions import choose_refund_account
from services.transactions.domain.exceptions import PaymentException
from services.transactions.domain.explanations import (
    PROVISIONAL_MAX,
    explain_provisional,
    explain_start,
    explain_take_back,
)
from services.transactions.domain.refusals import PaymentExceptionNotFound, TransactionNotFound, WebhookNotFound
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.exception_tables import payment_exception_history, payment_exceptions
from services.transactions.store import bank_accounts as account_store
from services.transactions.store import transactions as store
from services.transactions.store.bank_accounts import BANK_ACCOUNTS
from services.transactions.store.contributions import list_received
from services.transactions.store.exceptions import EXCEPTIONS
from services.transactions.store.return_rates import find_return_rates
from services.transactions.tables import bank_accounts, transaction_history, transactions, webhooks

_T = transactions_pb2.Transaction
_b, _t, _w, _x = bank_accounts.c, transactions.c, webhooks.c, payment_exceptions.c
# Some say what is meant.
_UNFINISHED_MAX = 10
# What no line of a list says.
_NOT_LISTED = {
    "org_id",
    "previous_status",
    "account_number_digest",
    "is_corporate",
    "approval_reason",
    "first_presented_at",
    "request_subject",
    "request_role",
    "idempotency_key",
    "signed_in_at",
    "api_key_id",
    "corrected_signed_in_at",
    "corrected_api_key_id",
    "makers_and_checkers",
    "epoch",
    "tries",
    "due_at",
    "escrow_booked",
    "seal",
}


async def get_transaction(
    reader: Reader, request: transactions_pb2.GetTransactionRequest, now: datetime
) -> transactions_pb2.Transaction:
    row = await _require_row(reader, request.transaction_id)
    transaction = store.build_transaction(row)
    answer = answer_transaction(transaction, now, await find_approval(reader, transaction, now))
    answer.aggregate_version = row.aggregate_version
    if (start := await _explain_start(reader, transaction, now)) is not None:
        answer.explanations.start_time.CopyFrom(to_explanation(start))
    return answer


async def _explain_start(reader: Reader, row: Transaction, now: datetime) -> Explanation | None:
    if row.status is not Status.QUEUED or row.is_inbound or row.bank_account_id is None:
        return None
    try:
        account = await account_store.find_bank_account(reader, row.bank_account_id)
    except NotSealed:  # in the log by now, and the payout will say so
        return None
    return None if account is None else explain_start(account, now)


async def _require_row(source: Source, transaction_id: str) -> Any:
    """
    Raises:
        TransactionNotFound: unknown, of another organization, or of a party the caller does not act for.
        NotSealed
    """
    row = await fetch_row(source, _BY_ID, transaction_id=transaction_id)
    if row is None or not current_principal().may_reach(row.party_id):
        raise TransactionNotFound()
    return check_row(source, transactions, row)


_BY_ID = Read(
    with_version(store.select_transactions(), _t.transaction_id).where(
        is_mine(transactions), _t.transaction_id == sa.bindparam("transaction_id")
    )
)
_TRANSACTIONS = Listing(
    with_version(sa.select(*(column for column in _t if column.name not in _NOT_LISTED)), _t.transaction_id).where(
        is_mine(transactions)
    ),
    (_t.created_at, _t.transaction_id),
    {
        "ids": _t.transaction_id,
        **{
            column.name: column
            for column in (
                _t.status,
                _t.type,
                _t.payment_method,
                _t.party_id,
                _t.escrow_account_id,
                _t.investment_id,
                _t.distribution_id,
                _t.external_id,
            )
        },
    },
    party=_t.party_id,
    named={"status", "type", "payment_method"},
    bounds=time_bounds(_t.created_at),
)


async def list_transactions(
    reader: Reader, request: transactions_pb2.ListTransactionsRequest, _: datetime
) -> transactions_pb2.ListTransactionsResponse:
    page = await _TRANSACTIONS.fetch_page(
        reader,
        request,
        {
            "ids": request.ids,
            "status": map(_T.Status.Name, request.status),
            "type": map(_T.Type.Name, request.type),
            "payment_method": map(_T.PaymentMethod.Name, request.payment_method),
            "party_id": request.party_id,
            "escrow_account_id": request.escrow_account_id,
            "investment_id": request.investment_id,
            "distribution_id": request.distribution_id,
            "external_id": request.external_id,
        },
        **read_time_bounds(request),
    )
    listed = [messages.to_listed_transaction(row) for row in page.rows]
    return transactions_pb2.ListTransactionsResponse(
        transactions=await _leave_out_foreign(reader, listed),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def _leave_out_foreign(reader: Reader, listed: list[_T]) -> list[_T]:
    """Those of the page that are small, and of those that are so large that a page of them is no answer, ours.

    A list reads no seals, which most pages need not.
    """
    large = [each.transaction_id for each in listed if is_large(each)]
    if not large:
        return listed
    ours = keep_sealed(reader, transactions, await fetch_rows(reader, _BY_IDS, transaction_ids=large))
    foreign = set(large).difference(row.transaction_id for row in ours)
    return [each for each in listed if each.transaction_id not in foreign]


async def list_transaction_status_changes(
    tx: Tx, request: transactions_pb2.ListTransactionStatusChangesRequest, now: datetime
) -> transactions_pb2.ListTransactionStatusChangesResponse:
    """Raises TransactionNotFound, NotSealed."""
    await _require_row(tx, request.transaction_id)
    h = transaction_history.c
    changes = sa.select(transaction_history).where(
        is_mine(transaction_history), h.transaction_id == request.transaction_id
    )
    page = await read_page(tx, request, changes, [h.version], descending=False)
    return transactions_pb2.ListTransactionStatusChangesResponse(
        status_changes=map(messages.to_status_change, page.rows),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def get_bank_account(
    reader: Reader, request: bank_accounts_pb2.GetBankAccountRequest, now: datetime
) -> bank_accounts_pb2.BankAccount:
    """Raises BankAccountNotFound: unknown, of another organization, or of a party the caller does not act for."""
    row = await fetch_row(reader, _BANK_ACCOUNT, bank_account_id=request.bank_account_id)
    if row is None or not current_principal().may_reach(row.party_id):
        raise BankAccountNotFound()
    answer = answer_bank_account(BANK_ACCOUNTS.read_sealed(reader, row))
    answer.aggregate_version = row.aggregate_version
    return answer


_BANK_ACCOUNT = Read(
    with_version(BANK_ACCOUNTS.select(), _b.bank_account_id).where(
        _b.bank_account_id == sa.bindparam("bank_account_id")
    )
)


async def list_bank_accounts(
    tx: Tx, request: bank_accounts_pb2.ListBankAccountsRequest, now: datetime
) -> bank_accounts_pb2.ListBankAccountsResponse:
    statement = BANK_ACCOUNTS.select().where(
        within_reach(_b.party_id),
        *one_of(_b.bank_account_id, request.ids),
        *one_of(_b.status, [bank_accounts_pb2.BankAccount.Status.Name(each) for each in request.status]),
        *one_of(_b.party_id, request.party_id),
        *one_of(_b.external_id, request.external_id),
    )
    page = await read_list(tx, request, statement, _b.created_at, _b.bank_account_id)
    return bank_accounts_pb2.ListBankAccountsResponse(
        bank_accounts=BANK_ACCOUNTS.show_all(tx, page.rows, messages.to_bank_account),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def get_webhook(tx: Tx, request: webhooks_pb2.GetWebhookRequest, now: datetime) -> webhooks_pb2.Webhook:
    """Raises WebhookNotFound."""
    by_id = sa.select(webhooks).where(_w.webhook_id == request.webhook_id)
    row = (await tx.execute(by_id.where(is_mine(webhooks)))).one_or_none()
    if row is None:
        raise WebhookNotFound()
    return answer_webhook(row)


async def list_webhooks(
    tx: Tx, request: webhooks_pb2.ListWebhooksRequest, now: datetime
) -> webhooks_pb2.ListWebhooksResponse:
    statement = sa.select(webhooks).where(
        is_mine(webhooks),
        *one_of(_w.webhook_id, request.ids),
        *one_of(_w.status, [webhooks_pb2.Webhook.Status.Name(each) for each in request.status]),
        *one_of(_w.provider, request.provider),
        *one_of(_w.transaction_id, request.transaction_id),
    )
    page = await read_list(tx, request, statement, _w.created_at, _w.webhook_id)
    return webhooks_pb2.ListWebhooksResponse(
        webhooks=[messages.to_webhook(row) for row in page.rows],
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def get_payment_exception(
    tx: Tx, request: exceptions_pb2.GetPaymentExceptionRequest, now: datetime
) -> exceptions_pb2.PaymentException:
    """Raises: PaymentExceptionNotFound, NotSealed."""
    found = await _require_exception(tx, request.payment_exception_id)
    return answer_payment_exception(found, await read_involved(tx, found))


async def _require_exception(tx: Tx, exception_id: str) -> PaymentException:
    found = await EXCEPTIONS.find(tx, exception_id)
    if found is None:
        raise PaymentExceptionNotFound()
    return found


async def list_payment_exceptions(
    tx: Tx, request: exceptions_pb2.ListPaymentExceptionsRequest, now: datetime
) -> exceptions_pb2.ListPaymentExceptionsResponse:
    kinds, statuses = exceptions_pb2.PaymentException.Kind, exceptions_pb2.PaymentException.Status
    statement = EXCEPTIONS.select().where(
        *one_of(_x.payment_exception_id, request.ids),
        *one_of(_x.kind, [kinds.Name(each) for each in request.kind]),
        *one_of(_x.status, [statuses.Name(each) for each in request.status]),
        *one_of(_x.assignee, request.assignee),
        *one_of(_x.transaction_id, request.transaction_id),
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
    await _require_exception(tx, request.payment_exception_id)
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


async def batch_get_payouts(
    tx: Tx, request: payouts_pb2.BatchGetPayoutsRequest, _: datetime
) -> payouts_pb2.BatchGetPayoutsResponse:
    going_out = await store.list_payouts_going_out(tx, request.transaction_ids)
    return payouts_pb2.BatchGetPayoutsResponse(payouts=map(messages.to_payout, going_out))


async def list_unfinished_transactions(
    tx: Tx, request: unfinished_pb2.ListUnfinishedTransactionsRequest, _: datetime
) -> unfinished_pb2.ListUnfinishedTransactionsResponse:
    found = await store.list_unfinished(tx, request.escrow_account_id, _UNFINISHED_MAX)
    return unfinished_pb2.ListUnfinishedTransactionsResponse(transaction_ids=found)


async def get_provisional_money(
    tx: Tx, request: payouts_pb2.GetProvisionalMoneyRequest, _: datetime
) -> payouts_pb2.ProvisionalMoney:
    found = await store.list_provisional(tx, request.escrow_account_id, PROVISIONAL_MAX)
    return payouts_pb2.ProvisionalMoney(explanations=map(to_explanation, explain_provisional(found)))


async def get_refund_preview(
    tx: Tx, request: payouts_pb2.GetRefundPreviewRequest, _: datetime
) -> payouts_pb2.RefundPreview:
    known = await list_received(tx, {part.investment_id for part in request.parts})
    received = [(part.party_id, known.get((part.party_id, part.investment_id), [])) for part in request.parts]
    chosen = [(party_id, choose_refund_account(None, rows or [])) for party_id, rows in received]
    named = await account_store.list_bank_accounts(tx, {account_id for _, account_id in chosen if account_id})
    defaults, _altered = await account_store.list_default_accounts(
        tx, {party_id for party_id, account_id in chosen if not account_id}
    )
    accounts = {each.bank_account_id: each for each in (*named.values(), *defaults.values())}
    return payouts_pb2.RefundPreview(
        bank_accounts=map(messages.to_bank_account, accounts.values()),
        explanations=map(to_explanation, explain_take_back(rows for _, rows in received)),
    )


_BY_IDS = Read(
    store.select_transactions().where(
        is_mine(transactions),
        _t.transaction_id == sa.any_(sa.bindparam("transaction_ids", type_=sa.ARRAY(sa.Text))),
    )
)


async def batch_get_evaluation_facts(
    reader: Reader, request: evaluations_pb2.BatchGetEvaluationFactsRequest, _: datetime
) -> evaluations_pb2.BatchGetEvaluationFactsResponse:
    """Without the rows that do not say what this service wrote."""
    rows = keep_sealed(
        reader, transactions, await fetch_rows(reader, _BY_IDS, transaction_ids=list(request.transaction_ids))
    )
    facts = map(messages.to_evaluation_facts, map(store.build_transaction, rows))
    return evaluations_pb2.BatchGetEvaluationFactsResponse(facts=facts)
