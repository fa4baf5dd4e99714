"""Rows as the messages that travel."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from realco.transactions.v1 import bank_accounts_pb2, transactions_pb2, webhooks_pb2

from services.chassis.calls.wire import to_money, to_timestamp
from services.transactions.domain.transaction import Failure, Transaction

_T = transactions_pb2.Transaction


def to_transaction(row: Transaction, now: datetime) -> transactions_pb2.Transaction:
    return _T(
        transaction_id=row.transaction_id,
        type=row.type,
        status=row.status,
        payment_method=row.payment_method,
        amount=to_money(row.amount),
        escrow_account_id=row.escrow_account_id,
        party_id=row.party_id,
        bank_account_id=row.bank_account_id,
        investment_id=row.investment_id,
        distribution_id=row.distribution_id,
        allocation_id=row.allocation_id,
        description=row.description,
        failure=None if row.failure is None else to_failure(row.failure),
        attempts=row.attempts,
        presentments=row.presentments,
        next_attempt_time=_time(row.next_attempt_at),
        provider=row.provider,
        provider_reference=row.provider_reference,
        dispute_status=row.dispute_status,
        reconciliation_status=row.reconciliation_status,
        finality=_T.FINAL if row.is_final(now) else _T.PROVISIONAL,
        version=row.version,
        created_by=row.created_by,
        approved_by=row.approved_by,
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
        settle_time=_time(row.settled_at),
        return_risk_end_time=_time(row.return_risk_end_at),
        final_time=_time(row.final_at),
    )


def to_failure(failure: Failure) -> transactions_pb2.Transaction.Failure:
    return _T.Failure(
        code=failure.code, message=failure.message, retryable=failure.retryable, metadata=dict(failure.metadata)
    )


def to_move(row: sa.Row[Any]) -> transactions_pb2.TransactionMove:
    return transactions_pb2.TransactionMove(
        version=row.version,
        from_status=row.from_status or None,
        to_status=row.to_status,
        reason=row.reason,
        actor=row.actor,
        occur_time=to_timestamp(row.occurred_at),
    )


def to_bank_account(row: sa.Row[Any]) -> bank_accounts_pb2.BankAccount:
    """Without the number: only its last four digits ever leave."""
    return bank_accounts_pb2.BankAccount(
        bank_account_id=row.bank_account_id,
        party_id=row.party_id,
        account_holder_name=row.account_holder_name,
        routing_number=row.routing_number,
        account_number_last4=row.account_number_last4,
        account_type=row.account_type,
        default_for_payouts=row.default_for_payouts,
        status=row.status,
        block_reason=row.block_reason,
        create_time=to_timestamp(row.created_at),
    )


def to_webhook(row: sa.Row[Any]) -> webhooks_pb2.Webhook:
    return webhooks_pb2.Webhook(
        webhook_id=row.webhook_id,
        provider=row.provider,
        provider_event_id=row.provider_event_id,
        event_type=row.event_type,
        status=row.status,
        transaction_id=row.transaction_id,
        failure=row.failure,
        create_time=to_timestamp(row.created_at),
        apply_time=_time(row.applied_at),
    )


def _time(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else to_timestamp(moment)
