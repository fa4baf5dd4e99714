"""What Plaid says of a transfer and of an authorization, and what it means: as tables."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.chassis.values.money import Money
from services.transactions.domain.payments import PaymentStatus
from services.transactions.providers.plaid.states import (
    build_refused,
    check_decision,
    read_amount,
    read_payment,
    spell_amount,
    spell_proved,
)
from services.transactions.providers.protocols import Declined, OutcomeUnknown
from tests.support.vault import build_vault

VAULT = build_vault()
P = PaymentStatus
PROVED = spell_proved("auth", "txn_1", 1, is_inbound=True, amount=Money(100_00, "USD"), account_id="acc")


def a_transfer(**more: Any) -> dict[str, Any]:
    """One of ours, as Plaid shows it."""
    made = {
        "id": "t",
        "authorization_id": "auth",
        "account_id": "acc",
        "type": "debit",
        "amount": "100.00",
        "iso_currency_code": "USD",
        "status": "pending",
        "metadata": {"reference": "txn_1", "presentment": "1", "proof": VAULT.prove(PROVED)},
        "failure_reason": None,
        "refunds": [],
    }
    return made | more


def back(code: Any) -> dict[str, Any]:
    return {"failure_reason": {"failure_code": code, "ach_return_code": code, "description": "x"}}


@pytest.mark.parametrize(
    ("status", "more", "means", "code"),
    [
        ("pending", {}, P.PENDING, ""),
        ("posted", {}, P.PENDING, ""),
        ("settled", {}, P.SETTLED, ""),
        ("funds_available", {}, P.SETTLED, ""),
        ("cancelled", {}, P.CANCELLED, ""),
        ("failed", {}, P.FAILED, ""),
        ("failed", back("R01"), P.FAILED, ""),  # no bank had it
        ("returned", back("R01"), P.RETURNED, "R01"),
        ("returned", back("R85"), P.RETURNED, "R85"),
        ("returned", {"failure_reason": {"failure_code": "R85"}}, P.RETURNED, "R85"),  # by either name
        ("returned", {"failure_reason": {"ach_return_code": "R85"}}, P.RETURNED, "R85"),
        ("returned", back(None), P.RETURNED, "R17"),  # a person looks
        ("returned", back("not a code"), P.RETURNED, "R17"),
        ("returned", {}, P.RETURNED, "R17"),
    ],
)
def test_a_transfer_stands_as_its_status_says(status: str, more: Any, means: PaymentStatus, code: str) -> None:
    payment = read_payment(a_transfer(status=status, **more), VAULT.is_proof)
    assert (payment.status, payment.return_code, payment.reference) == (means, code, "txn_1")
    assert (payment.amount, payment.is_inbound, payment.presentment) == (Money(100_00, "USD"), True, 1)
    assert not payment.is_misused


@pytest.mark.parametrize(
    "changed",
    [
        {"authorization_id": "other"},
        {"account_id": "other"},
        {"type": "credit"},
        {"amount": "100.01"},
        {"iso_currency_code": "EUR"},
        {"metadata": None},
        {"metadata": {}},
        {"metadata": {"reference": "txn_2", "presentment": "1", "proof": VAULT.prove(PROVED)}},
        {"metadata": {"reference": "txn_1", "presentment": "2", "proof": VAULT.prove(PROVED)}},
        {"metadata": {"reference": "txn_1", "presentment": "1", "proof": build_vault(index=b"x" * 32).prove(PROVED)}},
        {"metadata": {"reference": "txn_1", "presentment": "1", "proof": None}},
        {"metadata": {"reference": 7, "presentment": "1", "proof": VAULT.prove(PROVED)}},
    ],
    ids=str,
)
def test_what_is_not_as_we_ordered_it_is_none_of_ours(changed: dict[str, Any]) -> None:
    payment = read_payment(a_transfer(**changed), VAULT.is_proof)
    assert (payment.reference, payment.presentment) == ("", 0)
    assert payment.is_misused is bool(changed.get("metadata", True)), "whoever uses our words is told of"


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": 7},
        {"type": "transfer"},
        {"status": "reversed"},
        {"amount": "100"},
        {"amount": "-100.00"},
        {"amount": 100.0},
        {"iso_currency_code": "QQQ"},
        {"refunds": [{"status": "pending"}]},
    ],
    ids=str,
)
def test_what_is_no_transfer_proves_nothing(wrong: dict[str, Any]) -> None:
    with pytest.raises(OutcomeUnknown):
        read_payment(a_transfer(**wrong), VAULT.is_proof)


@pytest.mark.parametrize(
    ("statuses", "gone_minor"),
    [([], 0), (["pending"], 25), (["posted", "settled"], 50), (["cancelled", "failed", "returned"], 0)],
)
def test_what_is_refunded_is_gone(statuses: list[str], gone_minor: int) -> None:
    refunds = [{"amount": "0.25", "status": status} for status in statuses]
    for status in ("settled", "returned"):
        assert read_payment(a_transfer(status=status, refunds=refunds), VAULT.is_proof).gone_minor == gone_minor


@pytest.mark.parametrize(
    ("minor", "text"), [(1, "0.01"), (100, "1.00"), (1_05, "1.05"), (9_007_199_254_740_993, "90071992547409.93")]
)
def test_an_amount_is_spelled_exactly_both_ways(minor: int, text: str) -> None:
    assert spell_amount(Money(minor, "USD")) == text
    assert read_amount(text) == minor


@pytest.mark.parametrize(
    "text", ["", "1", "1.0", "1.000", "1,00", "-1.00", "1e2", " 1.00", "\u0661.\u0660\u0660", None, 1.0]
)
def test_what_is_spelled_otherwise_is_no_amount(text: Any) -> None:
    with pytest.raises(ValueError, match="two digits"):
        read_amount(text)


@pytest.mark.parametrize(
    "code", [None, "MANUALLY_VERIFIED_ITEM", "MIGRATED_ACCOUNT_ITEM", "ITEM_LOGIN_REQUIRED", "ERROR"]
)
def test_what_is_approved_is_made_though_plaid_could_not_check_the_account(code: str | None) -> None:
    check_decision({"decision": "approved", "decision_rationale": {"code": code} if code else None})


@pytest.mark.parametrize(
    ("authorization", "message", "retryable"),
    [
        ({"decision": "declined", "decision_rationale": {"code": "NSF"}}, "declined the payment (NSF).", True),
        ({"decision": "declined", "decision_rationale": {"code": "RISK"}}, "declined the payment (RISK).", False),
        ({"decision": "declined", "decision_rationale": {"code": "a b"}}, "declined the payment.", False),
        ({"decision": "declined", "decision_rationale": None}, "declined the payment.", False),
        ({"decision": "user_action_required"}, "or use another one.", False),
    ],
)
def test_what_is_not_approved_is_declined_in_our_words(authorization: Any, message: str, retryable: bool) -> None:
    with pytest.raises(Declined) as refusal:
        check_decision(authorization)
    assert refusal.value.message.endswith(message)
    assert (refusal.value.code, refusal.value.retryable) == ("DECLINED_BY_PROVIDER", retryable)
    shown = re.search(r"\((\w+)\)", message)
    assert refusal.value.metadata == ({"provider_code": shown[1]} if shown else {})


@pytest.mark.parametrize("decision", [None, "", "permitted"])
def test_what_is_no_decision_proves_nothing(decision: str | None) -> None:
    with pytest.raises(OutcomeUnknown):
        check_decision({"decision": decision})


@pytest.mark.parametrize(
    ("code", "reason"),
    [("INVALID_FIELD", "INVALID_PAYMENT_DATA"), ("TRANSFER_NETWORK_LIMIT_EXCEEDED", "DECLINED_BY_PROVIDER")],
)
def test_what_is_refused_is_wrong_or_against_a_limit(code: str, reason: str) -> None:
    assert build_refused(code).code == reason
