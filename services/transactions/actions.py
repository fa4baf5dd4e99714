"""Single resources as one caller gets them: with what that caller may do with them now, and why their times are so.

An action is offered where the contract lets the caller call it, and the rule that would refuse it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2, transactions_pb2, webhooks_pb2
from realco.type.v1 import explanation_pb2

from services.chassis.calls.access import Rule, rules_of
from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_explanation
from services.chassis.values.errors import DomainError
from services.chassis.values.explanation import Explanation
from services.transactions import messages
from services.transactions.domain import decisions, explanations
from services.transactions.domain.transaction import Transaction


def answer_transaction(row: Transaction, now: datetime) -> transactions_pb2.Transaction:
    person = current_principal().person
    checks: dict[str, tuple[str, Callable[[], None]]] = {
        "approve": ("ApproveTransaction", lambda: decisions.check_approve(row, person)),
        "reject": ("RejectTransaction", lambda: decisions.check_reject(row)),
        "cancel": ("CancelTransaction", lambda: decisions.check_cancel(row)),
        "confirm": ("ConfirmTransaction", lambda: decisions.check_confirm(row, person)),
        "retry": ("RetryTransaction", lambda: decisions.check_retry(row, now)),
    }
    answer = messages.to_transaction(row)
    answer.allowed_actions.extend(action for action, (rpc, check) in checks.items() if _is_allowed(rpc, check))
    answer.explanations.CopyFrom(
        transactions_pb2.TimeExplanations(
            next_attempt_time=_spell(explanations.explain_next_attempt(row)),
            return_risk_end_time=_spell(explanations.explain_return_risk(row)),
            final_time=_spell(explanations.explain_finality(row)),
        )
    )
    return answer


def answer_bank_account(row: sa.Row[Any]) -> bank_accounts_pb2.BankAccount:
    checks = {
        "update": ("UpdateBankAccount", row.status == "ACTIVE"),
        "delete": ("DeleteBankAccount", row.status != "DELETED"),
    }
    return messages.to_bank_account(
        row, [action for action, (rpc, open_) in checks.items() if open_ and _may_call(rpc)]
    )


def answer_webhook(row: sa.Row[Any]) -> webhooks_pb2.Webhook:
    return messages.to_webhook(row, ["replay"] if _may_call("ReplayWebhook") else [])


def _spell(explanation: Explanation | None) -> explanation_pb2.Explanation | None:
    return None if explanation is None else to_explanation(explanation)


def _is_allowed(rpc: str, check: Callable[[], None]) -> bool:
    try:
        check()
    except DomainError:
        return False
    return _may_call(rpc)


def _may_call(rpc: str) -> bool:
    return _rules()[rpc].admits(current_principal())


@cache
def _rules() -> dict[str, Rule]:
    """The access rules of this service's RPCs, by name."""
    files = (transactions_pb2, bank_accounts_pb2, webhooks_pb2)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    return {path.rsplit("/", 1)[1]: rule for path, rule in rules_of(services).items()}
