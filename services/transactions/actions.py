"""Single resources as one caller gets them: with what that caller may do with them now, and why their times are so.

An action is offered where the contract lets the caller call it, and the rule that would refuse it does not.
"""

from __future__ import annotations

from datetime import datetime

from realco.transactions.v1 import bank_accounts_pb2, exceptions_pb2, transactions_pb2, webhooks_pb2
from realco.type.v1 import explanation_pb2

from services.chassis.approvals.resources import check_offered
from services.chassis.calls.access import list_allowed_actions
from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_explanation
from services.chassis.data.sql import Row
from services.chassis.values.approval import Approval, check_no
from services.chassis.values.explanation import Explanation
from services.transactions import messages
from services.transactions.domain import decisions, explanations, reported_returns
from services.transactions.domain.bank_accounts import (
    BankAccount,
    BankAccountStatus,
    check_may_unblock,
    check_may_update,
)
from services.transactions.domain.exceptions import (
    KINDS,
    Involved,
    PaymentException,
    check_may_assign,
    check_may_resolve,
)
from services.transactions.domain.reversal_rules import check_may_reverse
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.verifications import VerificationNeed


def answer_transaction(
    row: Transaction, now: datetime, approval: Approval | None = None
) -> transactions_pb2.Transaction:
    """
    Args:
        approval: What waits about it, while it is PENDING_APPROVAL: that says who may decide.
    """
    person = current_principal().person

    def check_may_approve() -> None:
        decisions.check_may_approve(row)
        check_offered(approval, now)

    def check_may_reject() -> None:
        decisions.check_may_reject(row)
        if approval is not None:
            check_no(approval, now, person)

    answer = messages.to_transaction(row)
    # Nobody else is told: a few wrong answers there, and the account is confirmed no more.
    if row.status is Status.PENDING_SETTLEMENT and row.party_id in current_principal().parties and row.payer_action_url:
        answer.payer_action_url = row.payer_action_url
    answer.allowed_actions[:] = list_allowed_actions(
        transactions_pb2.Transaction,
        ("TransactionsService/ApproveTransaction", check_may_approve),
        ("TransactionsService/RejectTransaction", check_may_reject),
        ("TransactionsService/CancelTransaction", lambda: decisions.check_may_cancel(row, person)),
        ("TransactionsService/ConfirmTransaction", lambda: decisions.check_may_confirm(row, person)),
        ("TransactionsService/CorrectTransactionAmount", lambda: decisions.check_may_correct(row, person)),
        ("TransactionsService/RetryTransaction", lambda: decisions.check_may_retry(row, now)),
        ("TransactionsService/RecordTransactionReturn", lambda: reported_returns.check_may_record_return(row)),
        # When its debit would settle its provider alone knows: the act says whether that is too late.
        ("TransactionsService/ReverseTransaction", lambda: check_may_reverse(row, now.date())),
    )
    answer.explanations.CopyFrom(
        transactions_pb2.TimeExplanations(
            next_attempt_time=_to_explanation(explanations.explain_next_attempt(row)),
            return_risk_end_time=_to_explanation(explanations.explain_return_risk(row)),
            final_time=_to_explanation(explanations.explain_finality(row)),
            announcement_end_time=_to_explanation(explanations.explain_announcement_end(row)),
        )
    )
    return answer


def answer_bank_account(account: BankAccount, need: VerificationNeed | None = None) -> bank_accounts_pb2.BankAccount:
    """
    Args:
        need: Whether its holder has verified it, for who acts for the party; None for anybody else.
    """
    actions = list_allowed_actions(
        bank_accounts_pb2.BankAccount,
        ("BankAccountsService/UpdateBankAccount", lambda: check_may_update(account)),
        ("BankAccountsService/DeleteBankAccount", account.status is not BankAccountStatus.DELETED),
        ("BankAccountsService/VerifyBankAccount", need is not None and need.is_left_to_verify),
        ("BankAccountsService/UnblockBankAccount", lambda: check_may_unblock(account)),
    )
    answer = messages.to_bank_account(account, actions)
    if need is not None:
        answer.verification.CopyFrom(messages.to_verification(need))
    return answer


def answer_webhook(row: Row) -> webhooks_pb2.Webhook:
    actions = list_allowed_actions(webhooks_pb2.Webhook, ("WebhooksService/ReplayWebhook", True))
    return messages.to_webhook(row, actions)


def answer_payment_exception(found: PaymentException, involved: Involved) -> exceptions_pb2.PaymentException:
    person = current_principal().person
    answer = messages.to_payment_exception(found)
    answer.meaning, answer.remedy = KINDS[found.kind].meaning, KINDS[found.kind].remedy
    answer.allowed_actions[:] = list_allowed_actions(
        exceptions_pb2.PaymentException,
        ("ExceptionsService/AssignPaymentException", lambda: check_may_assign(found)),
        ("ExceptionsService/ResolvePaymentException", lambda: check_may_resolve(found, involved, person)),
    )
    return answer


def _to_explanation(explanation: Explanation | None) -> explanation_pb2.Explanation | None:
    return None if explanation is None else to_explanation(explanation)
