"""Reads: SQL to proto, past the domain."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2, payouts_pb2, transactions_pb2, webhooks_pb2
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data.paging import one_of, read_list, read_page
from services.chassis.data.reach import is_mine, within_reach
from services.chassis.data.seals import check_row
from services.chassis.values.refusals import BankAccountNotFound
from services.transactions import messages
from services.transactions.actions import (
    answer_bank_account,
    answer_transaction,
    answer_webhook,
)
from services.transactions.commands.approvals import find_approval
from services.transactions.domain.refusals import TransactionNotFound, WebhookNotFound
from services.transactions.store import transactions as store
from services.transactions.store.bank_accounts import BANK_ACCOUNTS
from services.transactions.tables import bank_accounts, transaction_history, transactions, webhooks

_T = transactions_pb2.Transaction
_b, _t, _w = bank_accounts.c, transactions.c, webhooks.c


async def get_transaction(
    tx: AsyncConnection, request: transactions_pb2.GetTransactionRequest, now: datetime
) -> transactions_pb2.Transaction:
    row = store.build_transaction(await _require_row(tx, request.transaction_id))
    return answer_transaction(row, now, await find_approval(tx, row, now))


async def _require_row(tx: AsyncConnection, transaction_id: str) -> sa.Row[Any]:
    """
    Raises:
        TransactionNotFound: unknown, of another organization, or of a party the caller does not act for.
        NotSealed
    """
    principal = current_principal()
    row = (await tx.execute(_BY_ID, {"org_id": principal.org_id, "transaction_id": transaction_id})).one_or_none()
    if row is None or not principal.may_reach(row.party_id):
        raise TransactionNotFound()
    return check_row(tx, transactions, row)


_BY_ID = store.select_transactions().where(
    _t.org_id == sa.bindparam("org_id"), _t.transaction_id == sa.bindparam("transaction_id")
)


async def list_transactions(
    tx: AsyncConnection, request: transactions_pb2.ListTransactionsRequest, now: datetime
) -> transactions_pb2.ListTransactionsResponse:
    statement = store.select_transactions().where(
        is_mine(transactions),
        within_reach(_t.party_id),
        *one_of(_t.transaction_id, request.ids),
        *one_of(_t.status, [_T.Status.Name(each) for each in request.status]),
        *one_of(_t.type, [_T.Type.Name(each) for each in request.type]),
        *one_of(_t.payment_method, [_T.PaymentMethod.Name(each) for each in request.payment_method]),
        *one_of(_t.party_id, request.party_id),
        *one_of(_t.escrow_account_id, request.escrow_account_id),
        *one_of(_t.investment_id, request.investment_id),
        *one_of(_t.distribution_id, request.distribution_id),
        *one_of(_t.external_id, request.external_id),
    )
    page = await read_list(tx, request, statement, _t.created_at, _t.transaction_id)
    return transactions_pb2.ListTransactionsResponse(
        transactions=[messages.to_transaction(store.build_transaction(row)) for row in page.rows],
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def list_transaction_status_changes(
    tx: AsyncConnection, request: transactions_pb2.ListTransactionStatusChangesRequest, now: datetime
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
    tx: AsyncConnection, request: bank_accounts_pb2.GetBankAccountRequest, now: datetime
) -> bank_accounts_pb2.BankAccount:
    """Raises BankAccountNotFound: unknown, of another organization, or of a party the caller does not act for."""
    principal = current_principal()
    account = await BANK_ACCOUNTS.find(tx, request.bank_account_id)
    if account is None or not principal.may_reach(account.party_id):
        raise BankAccountNotFound()
    return answer_bank_account(account)


async def list_bank_accounts(
    tx: AsyncConnection, request: bank_accounts_pb2.ListBankAccountsRequest, now: datetime
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
        bank_accounts=[messages.to_bank_account(BANK_ACCOUNTS.read(row)) for row in page.rows],
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def get_webhook(
    tx: AsyncConnection, request: webhooks_pb2.GetWebhookRequest, now: datetime
) -> webhooks_pb2.Webhook:
    """Raises WebhookNotFound."""
    by_id = sa.select(webhooks).where(_w.webhook_id == request.webhook_id)
    row = (await tx.execute(by_id.where(is_mine(webhooks)))).one_or_none()
    if row is None:
        raise WebhookNotFound()
    return answer_webhook(row)


async def list_webhooks(
    tx: AsyncConnection, request: webhooks_pb2.ListWebhooksRequest, now: datetime
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


async def batch_get_payouts(
    tx: AsyncConnection, request: payouts_pb2.BatchGetPayoutsRequest, _: datetime
) -> payouts_pb2.BatchGetPayoutsResponse:
    going_out = await store.list_payouts_going_out(tx, request.transaction_ids)
    return payouts_pb2.BatchGetPayoutsResponse(payouts=map(messages.to_payout, going_out))
