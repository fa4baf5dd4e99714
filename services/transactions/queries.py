"""Reads: SQL to proto, past the domain."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2, transactions_pb2, webhooks_pb2
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data.paging import Page
from services.chassis.data.reach import within_reach
from services.transactions import messages
from services.transactions.domain.refusals import BankAccountNotFound, TransactionNotFound
from services.transactions.store import transactions as store
from services.transactions.tables import bank_accounts, transaction_history, transactions, webhooks

_T = transactions_pb2.Transaction


async def get_transaction(
    tx: AsyncConnection, request: transactions_pb2.GetTransactionRequest, now: datetime
) -> transactions_pb2.Transaction:
    """Raises TransactionNotFound: unknown, of another organization, or of a party the caller does not act for."""
    return await _read_transaction(tx, request.transaction_id, now)


async def _read_transaction(tx: AsyncConnection, transaction_id: str, now: datetime) -> transactions_pb2.Transaction:
    principal = current_principal()
    row = (await tx.execute(_BY_ID, {"org_id": principal.org_id, "transaction_id": transaction_id})).one_or_none()
    if row is None or not principal.may_reach(row.party_id):
        raise TransactionNotFound("There is no such transaction.")
    return messages.to_transaction(store.read(row), now)


_BY_ID = store.selected().where(
    transactions.c.org_id == sa.bindparam("org_id"), transactions.c.transaction_id == sa.bindparam("transaction_id")
)


async def list_transactions(
    tx: AsyncConnection, request: transactions_pb2.ListTransactionsRequest, now: datetime
) -> transactions_pb2.ListTransactionsResponse:
    t = transactions.c
    statement = store.selected().where(t.org_id == current_principal().org_id, within_reach(t.party_id))
    filters = {
        t.party_id: request.party_id,
        t.escrow_account_id: request.escrow_account_id,
        t.status: request.status and _T.Status.Name(request.status),
        t.type: request.type and _T.Type.Name(request.type),
        t.distribution_id: request.distribution_id,
    }
    for column, value in filters.items():
        if value:
            statement = statement.where(column == value)
    page = Page.of(request)
    found = (await tx.execute(page.of_query(statement, [t.created_at, t.transaction_id]))).all()
    rows, token, previous = page.cut(found, lambda row: (row.created_at, row.transaction_id))
    return transactions_pb2.ListTransactionsResponse(
        transactions=[messages.to_transaction(store.read(row), now) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
    )


async def get_history(
    tx: AsyncConnection, request: transactions_pb2.GetTransactionHistoryRequest, now: datetime
) -> transactions_pb2.GetTransactionHistoryResponse:
    """Raises TransactionNotFound."""
    await _read_transaction(tx, request.transaction_id, now)
    h = transaction_history.c
    statement = (
        sa.select(transaction_history)
        .where(h.org_id == current_principal().org_id, h.transaction_id == request.transaction_id)
        .order_by(h.version)
    )
    moves = [messages.to_move(row) for row in await tx.execute(statement)]
    return transactions_pb2.GetTransactionHistoryResponse(moves=moves)


async def get_bank_account(
    tx: AsyncConnection, request: bank_accounts_pb2.GetBankAccountRequest, now: datetime
) -> bank_accounts_pb2.BankAccount:
    """Raises BankAccountNotFound: unknown, of another organization, or of a party the caller does not act for."""
    principal, b = current_principal(), bank_accounts.c
    statement = sa.select(bank_accounts).where(
        b.org_id == principal.org_id, b.bank_account_id == request.bank_account_id
    )
    row = (await tx.execute(statement)).one_or_none()
    if row is None or not principal.may_reach(row.party_id):
        raise BankAccountNotFound("There is no such bank account.")
    return messages.to_bank_account(row)


async def list_bank_accounts(
    tx: AsyncConnection, request: bank_accounts_pb2.ListBankAccountsRequest, now: datetime
) -> bank_accounts_pb2.ListBankAccountsResponse:
    b = bank_accounts.c
    statement = sa.select(bank_accounts).where(b.org_id == current_principal().org_id, within_reach(b.party_id))
    if request.party_id:
        statement = statement.where(b.party_id == request.party_id)
    page = Page.of(request)
    found = (await tx.execute(page.of_query(statement, [b.created_at, b.bank_account_id]))).all()
    rows, token, previous = page.cut(found, lambda row: (row.created_at, row.bank_account_id))
    return bank_accounts_pb2.ListBankAccountsResponse(
        bank_accounts=[messages.to_bank_account(row) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
    )


async def list_webhooks(
    tx: AsyncConnection, request: webhooks_pb2.ListWebhooksRequest, now: datetime
) -> webhooks_pb2.ListWebhooksResponse:
    """Those that turned out to be about the caller's organization."""
    w = webhooks.c
    statement = sa.select(webhooks).where(w.org_id == current_principal().org_id)
    if request.provider:
        statement = statement.where(w.provider == request.provider)
    if request.status:
        statement = statement.where(w.status == webhooks_pb2.Webhook.Status.Name(request.status))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(statement, [w.created_at, w.webhook_id]))).all()
    rows, token, previous = page.cut(found, lambda row: (row.created_at, row.webhook_id))
    return webhooks_pb2.ListWebhooksResponse(
        webhooks=[messages.to_webhook(row) for row in rows], next_page_token=token, previous_page_token=previous
    )
