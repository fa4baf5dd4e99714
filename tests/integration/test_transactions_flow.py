"""Transactions from the request to the end, on real PostgreSQL, with peers and a bank in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.api.httpbody_pb2 import HttpBody
from realco.compliance.v1.compliance_pb2 import ComplianceCheck
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import transactions_pb2 as pb
from realco.transactions.v1 import webhooks_pb2

from services.chassis.values import stops
from services.chassis.values.errors import DomainError
from services.transactions.domain.payments import PaymentStatus
from services.transactions.jobs.look_up_submitted import look_up_submitted
from tests.support.arrivals import build_arrival
from tests.support.peers.compliance import decide
from tests.support.transactions import (
    ADMIN,
    CHECKER,
    IMPORT,
    MONDAY,
    TransactionsHarness,
)

T = pb.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def refused(service: TransactionsHarness, principal, rpc: str, request) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await service.ask(principal, rpc, request)
    return refusal.value


async def test_a_contribution_goes_from_request_to_completion_through_every_state(service: TransactionsHarness) -> None:
    created = await service.deposit()
    assert created.status == T.QUEUED
    await service.work()
    assert (await service.get(created.transaction_id)).status == T.PENDING_SETTLEMENT

    service.clock.advance(timedelta(days=3))
    service.bank.report(created.transaction_id, PaymentStatus.SETTLED, at=MONDAY + timedelta(days=2))
    await service.work(hurried=True)
    settled = await service.get(created.transaction_id)
    assert (settled.status, settled.finality) == (T.SETTLED, T.PROVISIONAL)
    # The bank's day counts, not the day on which we heard.
    assert settled.settle_time.ToDatetime(tzinfo=UTC) == MONDAY + timedelta(days=2)
    assert settled.return_risk_end_time.ToDatetime(tzinfo=UTC) == datetime(2024, 12, 11, 12, tzinfo=UTC)

    service.clock.set(datetime(2024, 12, 11, 11, 59, tzinfo=UTC))
    await service.work()
    assert (await service.get(created.transaction_id)).status == T.SETTLED
    service.clock.set(datetime(2024, 12, 11, 12, tzinfo=UTC))
    await service.work()
    completed = await service.get(created.transaction_id)
    assert (completed.status, completed.finality, completed.attempts) == (T.COMPLETED, T.PROVISIONAL, 1)

    service.clock.advance(timedelta(days=60))
    await service.work()
    final = await service.get(created.transaction_id)
    assert (final.finality, final.etag != completed.etag) == (T.FINAL, True)
    path = "INITIATED APPROVED QUEUED PROCESSING PENDING_SETTLEMENT SETTLED COMPLETED"
    assert await service.path(created.transaction_id) == path.split()
    names = "Created Approved Queued Processing Submitted Settled Completed Updated"
    assert await service.events(created.transaction_id) == [f"Transaction{name}" for name in names.split()]


async def test_a_debit_without_funds_is_presented_three_times_and_no_more(service: TransactionsHarness) -> None:
    created = await service.deposit()
    day = MONDAY
    for presentment in (1, 2, 3):
        await service.work()
        day += timedelta(days=1)
        service.clock.set(day)
        service.bank.report(created.transaction_id, PaymentStatus.RETURNED, "R01", at=day)
        await service.work(hurried=True)
        seen = await service.get(created.transaction_id)
        assert (seen.presentments, seen.failure.metadata["network_code"]) == (presentment, "R01")
        if presentment < 3:
            assert (seen.status, seen.failure.retryable) == (T.PENDING_RETRY, True)
            day = seen.next_attempt_time.ToDatetime(tzinfo=UTC)
            service.clock.set(day)
    assert (seen.status, seen.failure.retryable, seen.attempts) == (T.RETURNED, False, 3)
    assert [payment.presentment for payment in service.bank.payments.values()] == [1, 2, 3]
    request = pb.RetryTransactionRequest(idempotency_key="once-more", transaction_id=created.transaction_id)
    assert (await refused(service, ADMIN, "RetryTransaction", request)).reason == "ATTEMPTS_EXHAUSTED"


async def test_after_180_days_nobody_presents_a_debit_again(service: TransactionsHarness) -> None:
    late = await service.deposit()
    await service.work()
    service.clock.advance(timedelta(days=181))
    service.bank.report(late.transaction_id, PaymentStatus.RETURNED, "R01", at=service.clock.now())
    await service.work(hurried=True)
    request = pb.RetryTransactionRequest(idempotency_key="late", transaction_id=late.transaction_id)
    assert (await refused(service, ADMIN, "RetryTransaction", request)).reason == "NOT_RETRYABLE"
    assert (await service.get(late.transaction_id)).status == T.RETURNED

    overslept = await service.deposit()
    await service.work()
    service.bank.report(overslept.transaction_id, PaymentStatus.RETURNED, "R01", at=service.clock.now())
    await service.work(hurried=True)
    service.clock.advance(timedelta(days=181))  # the timer's worker was away
    await service.work()
    ended = await service.get(overslept.transaction_id)
    assert (ended.status, ended.failure.code, ended.failure.retryable) == (T.FAILED, "NOT_RETRYABLE", False)
    assert [payment.presentment for payment in service.bank.payments.values()] == [1, 1]


async def test_a_return_after_completion_is_still_a_return_and_retires_the_account(
    service: TransactionsHarness,
) -> None:
    created = await service.deposit()
    await service.work()
    service.bank.report(created.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    service.clock.advance(timedelta(days=30))
    await service.work()
    service.bank.report(created.transaction_id, PaymentStatus.RETURNED, "R10")
    payment_id = service.bank.report(created.transaction_id, PaymentStatus.RETURNED, "R10")
    await hook(service, "evt_1", payment_id)
    await service.work()
    returned = await service.get(created.transaction_id)
    assert (returned.status, returned.failure.code, returned.failure.retryable) == (
        T.RETURNED,
        "RETURNED_BY_BANK",
        False,
    )
    again = await service.deposit_request(suffix="03")
    again.bank_account_id = created.bank_account_id
    refusal = await refused(service, IMPORT, "CreateTransaction", again)
    assert (refusal.reason, refusal.metadata["status"]) == ("BANK_ACCOUNT_NOT_USABLE", "BLOCKED")


async def hook(service: TransactionsHarness, event_id: str, payment_id: str):
    """A webhook of the bank in memory."""
    body = HttpBody(data=f"{event_id} payment.changed {payment_id}".encode())
    return await service.ask(ADMIN, "ReceiveSandboxWebhook", webhooks_pb2.ReceiveSandboxWebhookRequest(body=body))


async def test_a_payout_takes_its_money_from_escrow_before_the_bank_is_asked(service: TransactionsHarness) -> None:
    payout = await service.payout()
    assert (payout.status, payout.created_by) == (T.INITIATED, "admin-1")
    await service.work()
    assert service.escrow.submitted == [f"txn:{payout.transaction_id}:1:submit"]
    service.bank.report(payout.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    completed = await service.get(payout.transaction_id)
    assert (completed.status, completed.presentments, completed.attempts) == (T.COMPLETED, 0, 1)
    assert completed.final_time.ToDatetime(tzinfo=UTC) == datetime(2024, 12, 5, tzinfo=UTC), "two banking days are over"


async def test_a_payout_that_escrow_refuses_never_reaches_the_bank(service: TransactionsHarness) -> None:
    refused_payout, paid = await service.payout(owed=False), await service.payout("inv-002")
    await service.work()
    failed = await service.get(refused_payout.transaction_id)
    assert (failed.status, failed.failure.code) == (T.FAILED, "INSUFFICIENT_AVAILABLE_BALANCE")
    assert [payment.reference for payment in service.bank.payments.values()] == [paid.transaction_id]


@pytest.mark.parametrize(("said", "code", "status"), [
    (PaymentStatus.FAILED, "R03", T.FAILED),
    (PaymentStatus.RETURNED, "R23", T.RETURNED),
])  # fmt: skip
async def test_a_payout_that_comes_back_is_not_sent_again_by_itself(
    service: TransactionsHarness, said: PaymentStatus, code: str, status: int
) -> None:
    payout = await service.payout()
    await service.work()
    service.bank.report(payout.transaction_id, said, code)
    await service.work(hurried=True)
    seen = await service.get(payout.transaction_id)
    assert (seen.status, seen.failure.metadata["network_code"], seen.failure.retryable) == (status, code, False)
    request = pb.RetryTransactionRequest(idempotency_key="again", transaction_id=payout.transaction_id)
    assert (await refused(service, ADMIN, "RetryTransaction", request)).reason == "NOT_RETRYABLE"


async def test_proceeds_always_wait_for_a_second_person(service: TransactionsHarness) -> None:
    payout = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL)
    await service.work()
    waiting = await service.get(payout.transaction_id)
    assert waiting.status == T.PENDING_APPROVAL
    approve = pb.ApproveTransactionRequest(transaction_id=payout.transaction_id, etag=waiting.etag)
    assert (await refused(service, ADMIN, "ApproveTransaction", approve)).reason == "MAKER_IS_CHECKER"
    approved = await service.ask(CHECKER, "ApproveTransaction", approve)
    assert (approved.status, approved.approved_by) == (T.QUEUED, "admin-2")
    await service.work()
    assert (await service.get(payout.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_a_rejected_withdrawal_is_cancelled_and_stays_so(service: TransactionsHarness) -> None:
    payout = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL)
    await service.work()
    read = await service.get(payout.transaction_id)
    reject = pb.RejectTransactionRequest(
        idempotency_key="no", transaction_id=payout.transaction_id, note="wrong account", etag=read.etag
    )
    for _ in (1, 2):  # the second is a replay
        rejected = await service.ask(CHECKER, "RejectTransaction", reject)
        assert (rejected.status, rejected.finality) == (T.CANCELLED, T.FINAL)
    approve = pb.ApproveTransactionRequest(transaction_id=payout.transaction_id, etag=read.etag)
    assert (await refused(service, CHECKER, "ApproveTransaction", approve)).reason == "ETAG_MISMATCH"
    approve.etag = rejected.etag
    assert (await refused(service, CHECKER, "ApproveTransaction", approve)).reason == "ILLEGAL_STATUS_CHANGE"
    assert (await service.path(payout.transaction_id))[-2:] == ["PENDING_APPROVAL", "CANCELLED"]


@pytest.mark.parametrize(("method", "ends"), [(T.WIRE, T.COMPLETED), (T.CHECK, T.SETTLED)])
async def test_a_wire_or_check_waits_until_another_person_confirms_it(
    service: TransactionsHarness, method: int, ends: int
) -> None:
    created = await service.deposit(payment_method=method, bank_account_id=None)
    await service.work()
    waiting = await service.get(created.transaction_id)
    assert (waiting.status, waiting.provider) == (T.PENDING_SETTLEMENT, "manual")
    confirm = build_arrival(waiting, idempotency_key="arrived")
    assert (await refused(service, ADMIN, "ConfirmTransaction", confirm)).reason == "MAKER_IS_CHECKER"
    for _ in (1, 2):  # the second is a replay
        confirmed = await service.ask(CHECKER, "ConfirmTransaction", confirm)
        assert confirmed.status == ends
    assert confirmed.finality == (T.FINAL if method == T.WIRE else T.PROVISIONAL)
    assert service.bank.payments == {}
    found = await service.get(created.transaction_id)
    assert (found.bank_reference, found.confirmed_by, found.approved_by) == ("FED-1", CHECKER.person, "")
    assert not waiting.HasField("bank_reference")
    service.clock.advance(timedelta(days=64))  # sixty, and the banking day after
    await service.work()
    ended = await service.get(created.transaction_id)  # no bank can be asked: it goes by time
    assert (ended.status, ended.finality) == (T.COMPLETED, T.FINAL)


async def test_an_ach_debit_is_not_confirmed_by_hand(service: TransactionsHarness) -> None:
    created = await service.deposit()
    refusal = await refused(service, CHECKER, "ConfirmTransaction", build_arrival(created))
    assert refusal.reason == "PAYMENT_METHOD_NOT_SUPPORTED"


async def test_one_person_cancels_transactions_of_a_party_so_often_and_another_still_does(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stops, "STOPS_MAX", 1)
    payouts = [await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL) for _ in range(3)]
    first, second, third = (pb.CancelTransactionRequest(transaction_id=each.transaction_id) for each in payouts)
    for _ in (1, 2):
        assert (await service.ask(ADMIN, "CancelTransaction", first)).status == T.CANCELLED
    assert (await refused(service, ADMIN, "CancelTransaction", second)).reason == "TOO_MANY_STOPS"
    assert (await service.ask(CHECKER, "CancelTransaction", second)).status == T.CANCELLED
    service.clock.advance(stops.STOPS_WITHIN)
    assert (await service.ask(ADMIN, "CancelTransaction", third)).status == T.CANCELLED
    # And what a party pays in; but for what one ordered oneself.
    wires = [await service.deposit_request(payment_method=T.WIRE, bank_account_id=None) for _ in range(4)]
    makers = (CHECKER, ADMIN, ADMIN, CHECKER)
    made = [await service.ask(by, "CreateTransaction", wire) for by, wire in zip(makers, wires, strict=True)]
    cancels = [pb.CancelTransactionRequest(transaction_id=each.transaction_id) for each in made]
    for cancel in cancels[:3]:
        assert (await service.ask(ADMIN, "CancelTransaction", cancel)).status == T.CANCELLED
    assert (await refused(service, ADMIN, "CancelTransaction", cancels[3])).reason == "TOO_MANY_STOPS"


async def test_what_a_provider_has_taken_is_not_cancelled(service: TransactionsHarness) -> None:
    queued, sent = await service.deposit(), await service.deposit("inv-002")
    cancel = pb.CancelTransactionRequest(transaction_id=queued.transaction_id, note="changed my mind")
    for _ in (1, 2):
        assert (await service.ask(ADMIN, "CancelTransaction", cancel)).status == T.CANCELLED
    await service.work()
    refusal = await refused(
        service, ADMIN, "CancelTransaction", pb.CancelTransactionRequest(transaction_id=sent.transaction_id)
    )
    assert (refusal.reason, refusal.metadata) == (
        "ILLEGAL_STATUS_CHANGE",
        {"status": "PENDING_SETTLEMENT", "wanted_status": "CANCELLED"},
    )
    assert [payment.reference for payment in service.bank.payments.values()] == [sent.transaction_id]
    assert (await service.events(queued.transaction_id))[-1] == "TransactionCancelled"


async def test_a_declined_debit_is_tried_again_when_somebody_asks_with_a_new_key(service: TransactionsHarness) -> None:
    created = await service.deposit(suffix="93")
    await service.work()
    failed = await service.get(created.transaction_id)
    assert (failed.status, failed.failure.retryable, failed.attempts, failed.presentments) == (T.FAILED, True, 1, 0)
    request = pb.RetryTransactionRequest(idempotency_key="retry-1", transaction_id=created.transaction_id)
    retried = await service.ask(ADMIN, "RetryTransaction", request)
    assert (retried.status, retried.HasField("failure")) == (T.QUEUED, False)
    assert await service.ask(ADMIN, "RetryTransaction", request) == retried
    await service.work()
    assert list(service.bank.keys) == [f"txn:{created.transaction_id}:{attempt}" for attempt in (1, 2)]
    assert (await service.get(created.transaction_id)).attempts == 2


async def test_a_returned_debit_need_not_wait_for_its_day(service: TransactionsHarness) -> None:
    created = await service.deposit()
    await service.work()
    service.bank.report(created.transaction_id, PaymentStatus.RETURNED, "R09")
    await service.work(hurried=True)
    request = pb.RetryTransactionRequest(idempotency_key="now", transaction_id=created.transaction_id)
    assert (await service.ask(ADMIN, "RetryTransaction", request)).status == T.QUEUED


async def test_nothing_moves_while_compliance_is_away_and_everything_does_when_it_is_back(
    service: TransactionsHarness,
) -> None:
    payouts = [await service.payout(f"inv-{number}") for number in range(3)]
    with service.wire.cut(service.compliance):
        created = await service.deposit()
        assert created.status == T.INITIATED
        await service.hurry()
        await service.work()
        assert (await service.get(created.transaction_id)).status == T.INITIATED
        assert service.bank.payments == {}
    await service.hurry()
    await service.work()
    for transaction in (created, *payouts):
        assert (await service.get(transaction.transaction_id)).status == T.PENDING_SETTLEMENT


@pytest.mark.parametrize("status", [ComplianceCheck.PENDING, ComplianceCheck.ERROR, ComplianceCheck.STATUS_UNSPECIFIED])
async def test_what_compliance_does_not_decide_does_not_move(service: TransactionsHarness, status: int) -> None:
    service.compliance.results["inv-001"] = decide(status)
    created = await service.deposit()
    assert created.status == T.INITIATED
    await service.hurry()
    await service.work()
    assert (await service.get(created.transaction_id)).status == T.INITIATED


async def test_what_compliance_wants_reviewed_waits_for_a_second_person(service: TransactionsHarness) -> None:
    service.compliance.results["inv-001"] = decide(ComplianceCheck.MANUAL_REVIEW, "odd")
    created = await service.deposit()
    assert created.status == T.PENDING_APPROVAL
    assert (await service.events(created.transaction_id))[-1] == "TransactionApprovalRequested"


async def test_a_blocked_account_ends_what_waits_for_its_next_presentment(service: TransactionsHarness) -> None:
    waiting = await service.deposit()
    await service.work()
    service.bank.report(waiting.transaction_id, PaymentStatus.RETURNED, "R01")
    await service.work(hurried=True)
    request = await service.deposit_request()
    request.bank_account_id = waiting.bank_account_id
    other = await service.ask(IMPORT, "CreateTransaction", request)
    await service.work()
    service.bank.report(other.transaction_id, PaymentStatus.RETURNED, "R02")
    await service.work(hurried=True)
    service.clock.advance(timedelta(days=7))
    await service.work()
    ended = await service.get(waiting.transaction_id)
    assert (ended.status, ended.failure.code) == (T.FAILED, "BANK_ACCOUNT_NOT_USABLE")


@pytest.mark.parametrize("retired_first", [True, False])
async def test_retiring_a_blocked_account_lets_nothing_through_to_it(
    service: TransactionsHarness, retired_first: bool
) -> None:
    sent = await service.deposit()
    await service.work()
    request = await service.deposit_request(bank_account_id=sent.bank_account_id)
    queued = await service.ask(IMPORT, "CreateTransaction", request)
    retire = bank_pb.DeleteBankAccountRequest(bank_account_id=sent.bank_account_id)
    if retired_first:
        await service.ask(ADMIN, "DeleteBankAccount", retire)
    service.bank.report(sent.transaction_id, PaymentStatus.RETURNED, "R07")  # the customer revoked the authorization
    await service.hurry()
    await service.run(look_up_submitted)
    if not retired_first:
        await service.ask(ADMIN, "DeleteBankAccount", retire)
    await service.work()
    ended = await service.get(queued.transaction_id)
    assert (ended.status, ended.failure.code) == (T.FAILED, "BANK_ACCOUNT_NOT_USABLE")
    assert [payment.reference for payment in service.bank.payments.values()] == [sent.transaction_id]
