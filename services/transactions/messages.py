"""Rows as the messages that travel."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from realco.transactions.v1 import (
    bank_accounts_pb2,
    evaluations_pb2,
    exceptions_pb2,
    payouts_pb2,
    return_rates_pb2,
    sweeps_pb2,
    transactions_pb2,
    webhooks_pb2,
)
from realco.type.v1 import money_pb2

from services.chassis.calls.wire import to_money, to_optional_failure, to_optional_timestamp, to_timestamp
from services.chassis.data.sql import Row
from services.chassis.values.etags import etag_of
from services.chassis.values.failure import Failure, read_failure
from services.transactions.domain.bank_accounts import BankAccount
from services.transactions.domain.exceptions import KINDS, PaymentException
from services.transactions.domain.return_rates import ReturnRates
from services.transactions.domain.reversals import Reversal, read_reversal
from services.transactions.domain.states import Status
from services.transactions.domain.sweeps import Sweep, SweepLine
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES
from services.transactions.domain.verifications import VerificationNeed

_T = transactions_pb2.Transaction


def to_transaction(row: Transaction) -> transactions_pb2.Transaction:
    """As lists and events carry it; actions.py adds what is for one caller."""
    return _write(row, to_money(row.announced_amount), row.failure, row.reversal)


def to_listed_transaction(row: Any) -> transactions_pb2.Transaction:
    """`to_transaction` of a row as it stands: a page has many."""
    announced = money_pb2.Money(currency_code=row.currency, amount_minor=row.amount_minor)
    listed = _write(row, announced, read_failure(row.failure), read_reversal(row._mapping))
    listed.aggregate_version = row.aggregate_version
    return listed


def _write(
    row: Any, announced: money_pb2.Money, failure: Failure | None, reversal: Reversal | None
) -> transactions_pb2.Transaction:
    """A transaction, or its row: what they do not have alike is given."""
    amount, is_submitted = announced, row.status == Status.PENDING_SETTLEMENT  # of a listed row, text
    if row.corrected_minor is not None:
        amount = money_pb2.Money(currency_code=announced.currency_code, amount_minor=row.corrected_minor)
    fee = None
    if row.provider_fee_minor is not None:
        fee = money_pb2.Money(currency_code=announced.currency_code, amount_minor=row.provider_fee_minor)
    return _T(
        transaction_id=row.transaction_id,
        type=row.type,
        direction=TYPES[row.type].direction,
        status=row.status,
        payment_method=row.payment_method,
        amount=amount,
        announced_amount=None if amount is announced else announced,
        correction_note=row.correction_note,
        corrected_by=row.corrected_by,
        escrow_account_id=row.escrow_account_id,
        to_escrow_account_id=row.to_escrow_account_id,
        party_id=row.party_id,
        bank_account_id=row.bank_account_id,
        investment_id=row.investment_id,
        refunded_transaction_id=row.refunded_transaction_id,
        replaced_transaction_id=row.replaced_transaction_id,
        distribution_id=row.distribution_id,
        allocation_id=row.allocation_id,
        description=row.description,
        failure=to_optional_failure(failure),
        attempts=row.attempts,
        presentments=row.presentments,
        next_attempt_time=to_optional_timestamp(row.next_attempt_at),
        provider=row.provider,
        provider_reference=row.provider_reference,
        bank_reference=row.bank_reference,
        card=_to_card(row),
        dispute_status=row.dispute_status,
        dispute_response_due_time=to_optional_timestamp(row.dispute_due_at),
        dispute_reason=row.dispute_reason,
        dispute_reference=row.dispute_reference,
        reversal=None if reversal is None else _to_reversal(reversal),
        provider_fee=fee,
        reconciliation_status=row.reconciliation_status,
        finality=row.finality,
        created_by=row.created_by,
        approved_by=row.approved_by,
        confirmed_by=row.confirmed_by,
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
        settle_time=to_optional_timestamp(row.settled_at),
        return_risk_end_time=to_optional_timestamp(row.return_risk_end_at),
        final_time=to_optional_timestamp(row.final_at),
        announcement_end_time=to_optional_timestamp(row.next_look_at if is_submitted else None),
        external_id=row.external_id,
        metadata=row.metadata or None,  # what is empty need not be gone through
        etag=etag_of(row.transaction_id, row.version),
    )


def _to_card(row: Any) -> transactions_pb2.Transaction.Card | None:
    return None if row.card_last4 is None else _T.Card(brand=row.card_brand, last4=row.card_last4)


def _to_reversal(reversal: Reversal) -> transactions_pb2.Transaction.Reversal:
    return _T.Reversal(
        status=reversal.status,
        reason=reversal.reason,
        order_time=to_timestamp(reversal.ordered_at),
        settle_time=to_optional_timestamp(reversal.settled_at),
        return_risk_end_time=to_optional_timestamp(reversal.risk_end_at),
        end_time=to_optional_timestamp(reversal.ended_at),
        failure=to_optional_failure(reversal.failure),
    )


def to_status_change(row: Row) -> transactions_pb2.TransactionStatusChange:
    return transactions_pb2.TransactionStatusChange(
        aggregate_version=row.version,
        previous_status=row.from_status,
        status=row.to_status,
        note=row.note,
        actor=row.actor,
        occur_time=to_timestamp(row.occurred_at),
    )


def to_transaction_content(
    row: Transaction, approval_reason: str, account_number_code: str | None
) -> transactions_pb2.TransactionContent:
    """What a second person decides on."""
    transaction = _T(
        transaction_id=row.transaction_id,
        type=row.type,
        payment_method=row.payment_method,
        amount=to_money(row.amount),
        escrow_account_id=row.escrow_account_id,
        to_escrow_account_id=row.to_escrow_account_id,
        party_id=row.party_id,
        bank_account_id=row.bank_account_id,
        investment_id=row.investment_id,
        refunded_transaction_id=row.refunded_transaction_id,
        replaced_transaction_id=row.replaced_transaction_id,
        card=_to_card(row),
        distribution_id=row.distribution_id,
        allocation_id=row.allocation_id,
        description=row.description,
    )
    return transactions_pb2.TransactionContent(
        transaction=transaction, account_number_code=account_number_code, approval_reason=approval_reason
    )


def to_bank_account_content(account: BankAccount, account_number_code: str) -> bank_accounts_pb2.BankAccountContent:
    """What a second person decides on."""
    decided = bank_accounts_pb2.BankAccount(
        bank_account_id=account.bank_account_id,
        party_id=account.party_id,
        account_holder_name=account.account_holder_name,
        routing_number=account.routing_number,
        account_number_last4=account.account_number_last4,
        account_type=account.account_type,
        holder_type=account.holder_type,
        default_for_payouts=account.default_for_payouts,
        replaces_bank_account_id=account.replaces_bank_account_id,
        name_match=account.name_match,
    )
    return bank_accounts_pb2.BankAccountContent(bank_account=decided, account_number_code=account_number_code)


def to_payout_account(
    account: BankAccount, first_paid_at: datetime | None, taken_back_at: datetime | None
) -> payouts_pb2.PayoutAccount:
    return payouts_pb2.PayoutAccount(
        bank_account=to_bank_account(account),
        first_paid_time=to_optional_timestamp(first_paid_at),
        makers=account.makers,
        taken_back_time=to_optional_timestamp(taken_back_at),
    )


def to_bank_account(account: BankAccount, actions: Iterable[str] = ()) -> bank_accounts_pb2.BankAccount:
    """Without the number: only its last four digits ever leave."""
    return bank_accounts_pb2.BankAccount(
        bank_account_id=account.bank_account_id,
        party_id=account.party_id,
        account_holder_name=account.account_holder_name,
        routing_number=account.routing_number,
        account_number_last4=account.account_number_last4,
        account_type=account.account_type,
        holder_type=account.holder_type,
        default_for_payouts=account.default_for_payouts,
        status=account.status,
        block_reason=account.block_reason,
        block_network_code=account.block_network_code,
        create_time=to_timestamp(account.created_at),
        update_time=to_timestamp(account.updated_at),
        external_id=account.external_id,
        metadata=account.metadata,
        etag=account.etag,
        allowed_actions=actions,
        confirm_time=to_optional_timestamp(account.confirmed_at),
        payout_start_time=to_optional_timestamp(account.payout_start),
        created_by=account.created_by,
        annotated_by=account.annotator,
        replaces_bank_account_id=account.replaces_bank_account_id,
        replaced_by_bank_account_id=account.replaced_by_bank_account_id,
        confirmation=account.confirmation,
        name_match=account.name_match,
    )


def to_verification(need: VerificationNeed) -> bank_accounts_pb2.BankAccount.Verification:
    """How far an account is verified, for who acts for its party."""
    kind, found = bank_accounts_pb2.BankAccount.Verification, need.verification
    if found is None:
        return kind(status=kind.NOT_ASKED_FOR if need.is_needed else kind.NOT_NEEDED)
    return kind(
        status=found.status,
        action_url=found.action_url,
        expire_time=to_optional_timestamp(found.expires_at),
        failure=to_optional_failure(found.failure),
        verify_time=to_optional_timestamp(found.verified_at),
    )


def to_webhook(row: Row, actions: Iterable[str] = ()) -> webhooks_pb2.Webhook:
    failure = read_failure(row.failure)
    return webhooks_pb2.Webhook(
        webhook_id=row.webhook_id,
        provider=row.provider,
        provider_event_id=row.provider_event_id,
        event_type=row.event_type,
        status=row.status,
        transaction_id=row.transaction_id,
        failure=to_optional_failure(failure),
        create_time=to_timestamp(row.created_at),
        apply_time=to_optional_timestamp(row.applied_at),
        allowed_actions=actions,
    )


def to_payment_exception(found: PaymentException) -> exceptions_pb2.PaymentException:
    """As lists and events carry it; actions.py adds what is for one caller."""
    return exceptions_pb2.PaymentException(
        payment_exception_id=found.payment_exception_id,
        kind=found.kind,
        severity=KINDS[found.kind].severity,
        status=found.status,
        cause=found.cause,
        transaction_id=found.transaction_id,
        bank_account_id=found.bank_account_id,
        provider=found.provider,
        provider_payment_id=found.provider_payment_id,
        file_name=found.file_name,
        amount=None if found.amount is None else to_money(found.amount),
        escrow_account_id=found.escrow_account_id,
        party_id=found.party_id,
        investment_id=found.investment_id,
        distribution_id=found.distribution_id,
        allocation_id=found.allocation_id,
        occurrence_count=found.occurrence_count,
        create_time=to_timestamp(found.created_at),
        open_time=to_timestamp(found.opened_at),
        last_seen_time=to_timestamp(found.last_seen_at),
        assignee=found.assignee,
        resolved_by=found.resolved_by,
        resolve_time=to_optional_timestamp(found.resolved_at),
        resolution_note=found.resolution_note,
        etag=found.etag,
    )


def to_return_rates(counted: ReturnRates | None) -> return_rates_pb2.AchReturnRates:
    if counted is None:
        return return_rates_pb2.AchReturnRates()
    rates = [
        return_rates_pb2.AchReturnRate(
            kind=rate.kind,
            return_count=rate.return_count,
            rate_bps=rate.rate_bps,
            limit_bps=rate.limit.limit_bps,
            is_exceeded=rate.is_exceeded,
        )
        for rate in counted.list_rates()
    ]
    return return_rates_pb2.AchReturnRates(
        as_of=to_timestamp(counted.updated_at), debit_count=counted.debit_count, rates=rates
    )


def to_sweep(part: Sweep) -> sweeps_pb2.Sweep:
    return sweeps_pb2.Sweep(
        sweep_id=part.sweep_id,
        provider=part.provider,
        provider_sweep_id=part.provider_sweep_id,
        status=part.status,
        amount=to_money(part.amount),
        arrival_time=to_timestamp(part.arrives_at),
        is_explained=part.is_explained,
        failure_code=part.failure_code,
        provider_create_time=to_timestamp(part.made_at),
        create_time=to_timestamp(part.created_at),
        update_time=to_timestamp(part.updated_at),
    )


def to_sweep_line(line: SweepLine, arrives_at: datetime) -> sweeps_pb2.SweepLine:
    gross, fee, net = (
        money_pb2.Money(currency_code=line.currency, amount_minor=minor)
        for minor in (line.gross_minor, line.fee_minor, line.net_minor)
    )
    return sweeps_pb2.SweepLine(
        sweep_line_id=line.sweep_line_id,
        sweep_id=line.sweep_id,
        kind=line.kind,
        provider=line.provider,
        provider_movement_id=line.provider_movement_id,
        transaction_id=line.transaction_id,
        escrow_account_id=line.escrow_account_id,
        gross=gross,
        fee=fee,
        net=net,
        arrival_time=to_timestamp(arrives_at),
        create_time=to_timestamp(line.created_at),
    )


def to_exception_status_change(row: Row) -> exceptions_pb2.PaymentExceptionStatusChange:
    return exceptions_pb2.PaymentExceptionStatusChange(
        previous_status=row.from_status,
        status=row.to_status,
        note=row.note,
        actor=row.actor,
        occur_time=to_timestamp(row.occurred_at),
    )


def to_evaluation_facts(row: Transaction) -> evaluations_pb2.EvaluationFacts:
    """As compliance is asked to decide on it."""
    decided_on = build_decided_on(row.transaction_id, row.party_id, row.type, to_money(row.amount))
    return evaluations_pb2.EvaluationFacts(**decided_on, is_waiting=row.status is Status.INITIATED)


def build_decided_on(transaction_id: str, party_id: str, type_name: str, amount: money_pb2.Money) -> dict[str, Any]:
    """What compliance decides on: the fields of what it is asked, and of what it is told when it asks back."""
    kind = TYPES[type_name]
    return {
        "transaction_id": transaction_id,
        "party_id": party_id,
        "direction": kind.direction,
        "amount": amount,
        "is_contribution": kind.is_for_investment,
    }


def to_payout(row: Transaction) -> payouts_pb2.Payout:
    return payouts_pb2.Payout(
        transaction_id=row.transaction_id,
        idempotency_key=row.escrow_key,
        escrow_account_id=row.escrow_account_id,
        type=row.type,
        party_id=row.party_id,
        amount=to_money(row.amount),
        investment_id=row.investment_id or None,
        distribution_id=row.distribution_id or None,
        ordered_by=row.created_by,
    )
