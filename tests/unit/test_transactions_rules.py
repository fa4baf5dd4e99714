"""Which decisions are allowed, what a provider's state does, why times are so, which routing numbers are real."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from realco.transactions.v1.webhooks_pb2 import Webhook

from services.chassis.values.errors import DomainError
from services.chassis.values.explanation import Explanation
from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.chassis.values.payment_numbers import has_aba_digit
from services.chassis.values.session import NO_SESSION
from services.transactions.domain.decisions import (
    check_may_approve,
    check_may_cancel,
    check_may_confirm,
    check_may_reject,
    check_may_retry,
)
from services.transactions.domain.disputes import DisputeStatus
from services.transactions.domain.explanations import (
    explain_finality,
    explain_next_attempt,
    explain_return_risk,
    explain_take_back,
)
from services.transactions.domain.payments import Payment, PaymentStatus, find_difference, is_contradiction, list_moves
from services.transactions.domain.states import MOVES, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.webhooks import WebhookStatus

NOW = datetime(2024, 12, 2, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=180, seconds=1)

DEPOSIT = Transaction(
    org_id="org-1",
    transaction_id="txn_1",
    type="ESCROW_DEPOSIT",
    status=Status.FAILED,
    version=4,
    payment_method="ACH",
    announced_amount=Money(100_00, "USD"),
    escrow_account_id="esc_1",
    to_escrow_account_id=None,
    party_id="inv-001",
    bank_account_id="ba_1",
    account_number_digest="d1",
    is_corporate=False,
    approval_reason=None,
    investment_id="inv_1",
    refunded_transaction_id=None,
    replaced_transaction_id=None,
    distribution_id=None,
    allocation_id=None,
    description=None,
    failure=Failure("DECLINED_BY_PROVIDER", "", retryable=True),
    attempts=1,
    presentments=1,
    next_attempt_at=None,
    first_presented_at=NOW,
    provider="sandbox",
    provider_reference=None,
    payer_action_url=None,
    card_brand=None,
    card_last4=None,
    dispute_status=DisputeStatus.NONE,
    dispute_reference=None,
    dispute_reason=None,
    dispute_due_at=None,
    reversal=None,
    provider_fee_minor=None,
    earlier_fees_minor=0,
    reconciliation_status="UNRECONCILED",
    finality="PROVISIONAL",
    external_id=None,
    metadata={},
    created_by="admin-1",
    approved_by=None,
    makers_and_checkers=(),
    former_correctors=(),
    confirmed_by=None,
    bank_reference=None,
    corrected_minor=None,
    correction_note=None,
    corrected_by=None,
    corrected_signed_in_at=None,
    corrected_api_key_id=None,
    created_at=NOW,
    updated_at=NOW,
    settled_at=None,
    return_risk_end_at=None,
    final_at=None,
    next_look_at=None,
    escrow_booked=False,
    request_subject=None,
    request_role=None,
    idempotency_key=None,
    session=NO_SESSION,
    epoch=0,
    tries=0,
)


def failed(code: str, retryable: bool, **more: object) -> Transaction:
    """Failed for a reason of ours, or came back with a return code."""
    if not re.fullmatch(r"R\d\d", code):
        return replace(DEPOSIT, failure=Failure(code, "", retryable), **more)  # type: ignore[arg-type]
    return replace(DEPOSIT, failure=Failure("RETURNED_BY_BANK", "", retryable, {"network_code": code}), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("transaction", "verdict"), [
    (DEPOSIT, ""),
    (failed("TRANSACTION_LIMIT_EXCEEDED", False), "NOT_RETRYABLE"),
    (failed("R01", True, status=Status.RETURNED), ""),
    (failed("R09", False, status=Status.RETURNED, presentments=2, attempts=2), ""),
    (failed("R01", False, status=Status.RETURNED, presentments=3, attempts=3), "ATTEMPTS_EXHAUSTED"),
    (failed("R02", False, status=Status.RETURNED), "NOT_RETRYABLE"),
    (failed("R08", False, status=Status.RETURNED), "NOT_RETRYABLE"),
    (replace(DEPOSIT, attempts=3), "ATTEMPTS_EXHAUSTED"),
    (replace(DEPOSIT, type="DISTRIBUTION"), "NOT_RETRYABLE"),  # a payout is sent again as a new one
    (replace(DEPOSIT, updated_at=NOW - timedelta(days=4)), ""),
    (replace(DEPOSIT, updated_at=NOW - timedelta(days=12)), "NOT_RETRYABLE"),  # its payer expects it no more
    (replace(DEPOSIT, status=Status.PENDING_RETRY), ""),  # now, instead of later
    (failed("R01", False, status=Status.RETURNED, first_presented_at=LONG_AGO), "NOT_RETRYABLE"),
    (replace(DEPOSIT, status=Status.PENDING_RETRY, first_presented_at=LONG_AGO), "NOT_RETRYABLE"),
    (replace(DEPOSIT, presentments=0, first_presented_at=LONG_AGO), ""),  # no bank ever saw it
    (replace(DEPOSIT, status=Status.SETTLED), "ILLEGAL_STATUS_CHANGE"),
    (replace(DEPOSIT, status=Status.PROCESSING), "ILLEGAL_STATUS_CHANGE"),
    (replace(DEPOSIT, status=Status.CANCELLED), "ILLEGAL_STATUS_CHANGE"),
])  # fmt: skip
def test_another_attempt_is_allowed_only_where_the_failure_is_not_final(transaction: Transaction, verdict: str) -> None:
    assert _verdict(lambda: check_may_retry(transaction, NOW)) == verdict


WAITING = replace(DEPOSIT, status=Status.PENDING_APPROVAL, failure=None, attempts=0, presentments=0)
WIRE = replace(WAITING, status=Status.PENDING_SETTLEMENT, payment_method="WIRE")


@pytest.mark.parametrize(("check", "verdict"), [
    (lambda: check_may_approve(WAITING), ""),
    (lambda: check_may_approve(DEPOSIT), "ILLEGAL_STATUS_CHANGE"),
    (lambda: check_may_reject(WAITING), ""),
    (lambda: check_may_reject(DEPOSIT), "ILLEGAL_STATUS_CHANGE"),
    (lambda: check_may_cancel(WAITING, "ann"), ""),
    (lambda: check_may_cancel(WIRE, "ann"), ""),
    (lambda: check_may_cancel(replace(WIRE, payment_method="ACH"), "ann"), "ILLEGAL_STATUS_CHANGE"),
    (lambda: check_may_confirm(WIRE, "admin-2"), ""),
    (lambda: check_may_confirm(WIRE, "admin-1"), "MAKER_IS_CHECKER"),
    (lambda: check_may_confirm(DEPOSIT, "admin-2"), "PAYMENT_METHOD_NOT_SUPPORTED"),
    (lambda: check_may_confirm(replace(WIRE, status=Status.QUEUED), "admin-2"), "ILLEGAL_STATUS_CHANGE"),
])  # fmt: skip
def test_a_decision_needs_its_status_its_rail_and_another_person(check: Callable[[], None], verdict: str) -> None:
    assert _verdict(check) == verdict


SETTLED = replace(DEPOSIT, status=Status.SETTLED, failure=None, settled_at=NOW)


@pytest.mark.parametrize(("explanation", "rule", "statement"), [
    (
        explain_return_risk(replace(SETTLED, return_risk_end_at=NOW + timedelta(days=7))),
        "ACH_RETURN_RISK",
        "The money stays held until 2024-12-09: 5 banking days after it settled on 2024-12-02.",
    ),
    (
        explain_finality(replace(SETTLED, final_at=NOW + timedelta(days=60))),
        "ACH_DEBIT_RETURN",
        "The bank may send it back until 2025-01-31: 60 days and a banking day after it settled on 2024-12-02.",
    ),
    (
        explain_finality(replace(SETTLED, payment_method="WIRE", final_at=NOW)),
        "FINAL_AT_ONCE",
        "Nobody can take it back once it has settled.",
    ),
    (
        explain_next_attempt(failed("R01", True, next_attempt_at=NOW + timedelta(days=3))),
        "ACH_REPRESENTMENT",
        "Returned with R01; presented again 3 banking days later, on 2024-12-05.",
    ),
])  # fmt: skip
def test_a_time_says_which_rule_made_it(explanation: Explanation, rule: str, statement: str) -> None:
    assert (explanation.rule, explanation.statement) == (rule, statement)
    assert explanation.source
    assert explanation.operands


@pytest.mark.parametrize("explain", [explain_return_risk, explain_finality, explain_next_attempt])
def test_a_time_that_is_not_there_is_not_explained(explain: Callable[[Transaction], object]) -> None:
    assert explain(DEPOSIT) is None


def _verdict(rule: Callable[[], object]) -> str:
    try:
        rule()
    except DomainError as refusal:
        return refusal.reason
    return ""


@pytest.mark.parametrize(("reported", "status", "moves"), [
    ("pending", "PROCESSING", "PENDING_SETTLEMENT"),
    ("settled", "PROCESSING", "PENDING_SETTLEMENT SETTLED"),
    ("returned", "PROCESSING", "PENDING_SETTLEMENT RETURNED"),
    ("failed", "PROCESSING", "FAILED"),
    ("pending", "PENDING_SETTLEMENT", ""),
    ("settled", "PENDING_SETTLEMENT", "SETTLED"),
    ("returned", "PENDING_SETTLEMENT", "RETURNED"),
    ("failed", "PENDING_SETTLEMENT", "FAILED"),
    ("cancelled", "PENDING_SETTLEMENT", "CANCELLED"),
    ("pending", "SETTLED", ""),  # older than what we know
    ("settled", "SETTLED", ""),
    ("returned", "SETTLED", "RETURNED"),
    ("returned", "COMPLETED", "RETURNED"),  # late
    ("settled", "COMPLETED", ""),
    ("settled", "RETURNED", ""),
    ("returned", "RETURNED", ""),
    ("returned", "PENDING_RETRY", ""),
    ("returned", "QUEUED", ""),
    ("settled", "CANCELLED", ""),
])  # fmt: skip
def test_a_provider_s_state_moves_a_transaction_forward_and_never_back(reported: str, status: str, moves: str) -> None:
    assert list(list_moves(PaymentStatus(reported), Status(status))) == moves.split()


def test_every_move_that_a_provider_s_state_makes_is_an_edge() -> None:
    for reported in PaymentStatus:
        for status in Status:
            before = status
            for after in list_moves(reported, status):
                assert after in MOVES[before]
                before = after


@pytest.mark.parametrize(("reported", "status", "contradiction"), [
    ("failed", "SETTLED", True),
    ("cancelled", "COMPLETED", True),
    ("settled", "FAILED", True),  # money that we said does not come
    ("settled", "CANCELLED", True),
    ("returned", "FAILED", False),  # an account was blocked while the next presentment waited
    ("returned", "COMPLETED", False),
])  # fmt: skip
def test_a_provider_that_takes_an_end_back_without_a_return_contradicts_itself(
    reported: str, status: str, contradiction: bool
) -> None:
    assert is_contradiction(PaymentStatus(reported), Status(status), timedelta()) is contradiction


@pytest.mark.parametrize("status", [Status.RETURNED, Status.PENDING_RETRY])
@pytest.mark.parametrize(("seconds", "contradiction"), [(60, False), (61, True)], ids=["the older of two looks", "now"])
def test_what_came_back_and_is_said_to_be_there_again_contradicts_itself(status, seconds, contradiction) -> None:
    assert is_contradiction(PaymentStatus.SETTLED, status, timedelta(seconds=seconds)) is contradiction


PAYMENT = Payment("pay_1", "txn_1", PaymentStatus.PENDING, Money(100_00, "USD"), True, 1, None)


@pytest.mark.parametrize(("payment", "wrong"), [
    (PAYMENT, ""),
    (replace(PAYMENT, reference="txn_2"), "reference"),
    (replace(PAYMENT, amount=Money(100_01, "USD")), "amount"),
    (replace(PAYMENT, amount=Money(100_00, "EUR")), "amount"),
    (replace(PAYMENT, is_inbound=False), "direction"),
    (replace(PAYMENT, presentment=2), "presentment"),
])  # fmt: skip
def test_a_payment_that_differs_from_the_order_is_not_ours(payment: Payment, wrong: str) -> None:
    found = find_difference(payment, reference="txn_1", amount=Money(100_00, "USD"), is_inbound=True, presentment=1)
    assert found == wrong


@pytest.mark.parametrize(("routing_number", "real"), [
    ("021000021", True),
    ("011401533", True),
    ("021000022", False),
    ("120000021", False),  # two digits exchanged
    ("000000000", False),
    ("02100002", False),
    ("02100002\uff11", False),  # a full-width digit
])  # fmt: skip
def test_a_routing_number_has_a_right_check_digit(routing_number: str, real: bool) -> None:
    assert has_aba_digit(routing_number) is real


def test_a_webhook_has_the_statuses_that_the_contract_names() -> None:
    assert {"STATUS_UNSPECIFIED", *WebhookStatus} == set(Webhook.Status.keys())


@pytest.mark.parametrize(
    ("count", "named", "more"), [(10, 10, None), (12, 10, "largest of 12 payments are named: 2 more")]
)
def test_of_what_the_bank_may_take_back_the_largest_payments_are_named(count, named, more) -> None:
    paid = [
        replace(DEPOSIT, transaction_id=f"txn_{n:02}", announced_amount=Money(n, "USD"), final_at=NOW)
        for n in range(1, count + 1)
    ]
    [told] = explain_take_back([paid])
    largest = [f"txn_{n:02}" for n in range(count, count - named, -1)]
    assert ([name for name, _ in told.operands], (more or "") in told.statement) == (largest, True)
    assert ("are named" in told.statement) is (more is not None)
