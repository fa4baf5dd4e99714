"""Reads of transactions: SQL to proto, past the domain."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.transactions.v1 import (
    evaluations_pb2,
    transactions_pb2,
    unfinished_pb2,
)

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_explanation
from services.chassis.data.aggregates import is_large
from services.chassis.data.listings import Listing, read_time_bounds, time_bounds
from services.chassis.data.paging import read_page
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Reader, Source, fetch_row, fetch_rows
from services.chassis.data.seals import NotSealed, check_row, keep_sealed
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import with_version
from services.chassis.values.explanation import Explanation
from services.transactions import messages
from services.transactions.actions import (
    answer_transaction,
)
from services.transactions.commands.approvals import find_approval
from services.transactions.domain.explanations import (
    explain_start,
)
from services.transactions.domain.refusals import TransactionNotFound
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.store import bank_accounts as account_store
from services.transactions.store import transactions as store
from services.transactions.store.taken_back import list_drawn_back
from services.transactions.tables import transaction_history, transactions

_T = transactions_pb2.Transaction
_t = transactions.c
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
    "payer_action_url",
    "request_subject",
    "request_role",
    "idempotency_key",
    "signed_in_at",
    "api_key_id",
    "corrected_signed_in_at",
    "corrected_api_key_id",
    "former_correctors",
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
                _t.dispute_status,
                _t.party_id,
                _t.escrow_account_id,
                _t.to_escrow_account_id,
                _t.investment_id,
                _t.distribution_id,
                _t.external_id,
                _t.bank_reference,
                _t.provider_reference,
            )
        },
    },
    party=_t.party_id,
    named={"status", "type", "payment_method", "dispute_status"},
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
            "dispute_status": map(_T.DisputeStatus.Name, request.dispute_status),
            "party_id": request.party_id,
            "escrow_account_id": request.escrow_account_id,
            "to_escrow_account_id": request.to_escrow_account_id,
            "investment_id": request.investment_id,
            "distribution_id": request.distribution_id,
            "external_id": request.external_id,
            "bank_reference": request.bank_reference,
            "provider_reference": request.provider_reference,
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


async def list_unfinished_transactions(
    tx: Tx, request: unfinished_pb2.ListUnfinishedTransactionsRequest, now: datetime
) -> unfinished_pb2.ListUnfinishedTransactionsResponse:
    found = await store.list_unfinished(tx, request.escrow_account_id, _UNFINISHED_MAX)
    drawn_back = await list_drawn_back(tx, request.escrow_account_id, now)
    # Nobody knows until when the debit of one that was altered may come back.
    drawn_back_ids = (*(row.transaction_id for row in drawn_back.payouts), *drawn_back.altered_ids)
    found = list(dict.fromkeys([*found, *drawn_back_ids]))[:_UNFINISHED_MAX]
    return unfinished_pb2.ListUnfinishedTransactionsResponse(transaction_ids=found)


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
