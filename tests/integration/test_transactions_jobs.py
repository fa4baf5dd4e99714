"""What a crash, a second worker or a silent bank does to money on its way: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from realco.compliance.v1.clearances_pb2 import BatchEvaluateTransactionsRequest, BatchEvaluateTransactionsResponse
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import AnswerWithheld, DomainError, InvalidField
from services.chassis.values.money import Money
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.domain.states import Status
from services.transactions.jobs.book_payouts import book_payouts
from services.transactions.jobs.evaluate_initiated import evaluate_initiated
from services.transactions.jobs.start_queued import start_queued
from services.transactions.jobs.submit_payments import submit_payments
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.store import transactions as store
from services.transactions.tables import bank_accounts
from tests.support import servers
from tests.support.exceptions import count_found
from tests.support.memory_bank import unknown
from tests.support.peers.compliance import MemoryCompliance
from tests.support.peers.wire import Killed
from tests.support.transactions import ADMIN, IMPORT, INVESTOR, TransactionsHarness

T = pb.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


class SlowCompliance(MemoryCompliance):
    """Thinks so long about the first question that something happens meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []

    async def BatchEvaluateTransactions(
        self, request: BatchEvaluateTransactionsRequest, context: None
    ) -> BatchEvaluateTransactionsResponse:
        steps, self.meanwhile = self.meanwhile, []
        for step in steps:
            await step()
        return await super().BatchEvaluateTransactions(request, context)


async def in_processing(service: TransactionsHarness, kind: str):
    """A transaction that a worker is about to send."""
    made = await (service.deposit() if kind == "debit" else service.payout())
    await service.run(evaluate_initiated)
    await service.run(start_queued)
    await service.run(book_payouts)
    assert (await service.get(made.transaction_id)).status == T.PROCESSING
    return made


async def until_submitted(service: TransactionsHarness, transaction_id: str) -> pb.Transaction:
    for _ in range(12):
        await service.hurry()
        await service.work()
        seen = await service.get(transaction_id)
        if seen.status != T.PROCESSING:
            return seen
    raise AssertionError("it was never sent")


both = pytest.mark.parametrize("kind", ["debit", "payout"])


@both
@pytest.mark.parametrize("point", ["before_effect", "after_effect"])
@pytest.mark.parametrize("fault", ["crash", "unknown"])
async def test_whenever_the_call_to_the_bank_breaks_it_pays_once(
    service: TransactionsHarness, kind: str, point: str, fault: str
) -> None:
    made = await in_processing(service, kind)
    getattr(service.bank, point).append(Killed() if fault == "crash" else unknown())
    if fault == "crash":
        with pytest.raises(Killed):
            await service.run(submit_payments)
    else:
        await service.run(submit_payments)
    # An unknown outcome is never called a failure; where the look-up found the payment, it is known.
    known = (point, fault) == ("after_effect", "unknown")
    seen = await service.get(made.transaction_id)
    assert seen.status == (T.PENDING_SETTLEMENT if known else T.PROCESSING)

    seen = await until_submitted(service, made.transaction_id)
    assert (seen.status, seen.attempts) == (T.PENDING_SETTLEMENT, 1)
    [payment] = service.bank.payments.values()
    assert payment.payment_id == seen.provider_reference
    assert list(service.bank.keys) == [f"txn:{made.transaction_id}:1"]
    assert (await service.events(made.transaction_id)).count("TransactionSubmitted") == 1


@both
async def test_who_finds_an_attempt_of_another_looks_it_up_before_ordering(
    service: TransactionsHarness, kind: str
) -> None:
    made = await in_processing(service, kind)
    service.bank.after_effect.append(Killed())
    with pytest.raises(Killed):
        await service.run(submit_payments)
    await until_submitted(service, made.transaction_id)
    assert service.bank.look_ups == 1
    assert service.bank.keys[f"txn:{made.transaction_id}:1"] == 1  # it was not even asked again


@both
async def test_a_bank_that_stays_silent_leaves_it_processing_however_long(
    service: TransactionsHarness, kind: str
) -> None:
    made = await in_processing(service, kind)
    service.bank.before_effect += [OutcomeUnknown("429", retry_after_seconds=1) for _ in range(5)]
    for _ in range(5):
        await service.hurry()
        await service.run(submit_payments)
        assert (await service.get(made.transaction_id)).status == T.PROCESSING
    assert (await until_submitted(service, made.transaction_id)).attempts == 1
    assert len(service.bank.payments) == 1


@both
async def test_two_workers_at_once_send_nothing_twice(service: TransactionsHarness, kind: str) -> None:
    made = [await (service.deposit if kind == "debit" else service.payout)(f"inv-{number}") for number in range(12)]
    other = TransactionsHarness(
        service.database,
        clock=service.clock,
        bank=service.bank,
        escrow=service.escrow,
        compliance=service.compliance,
        distributions=service.distributions,
    )
    for _ in range(3):
        await asyncio.gather(service.work(), other.work(), service.run(submit_payments), other.run(submit_payments))
    assert len(service.bank.payments) == len(made)
    assert all(count == 1 for count in service.bank.keys.values())
    for each in made:
        path = await service.path(each.transaction_id)
        assert path == ["INITIATED", "APPROVED", "QUEUED", "PROCESSING", "PENDING_SETTLEMENT"]


async def test_a_worker_whose_lease_ran_out_writes_nothing(service: TransactionsHarness) -> None:
    made = await in_processing(service, "debit")
    taking = store.build_taking(Status.PROCESSING, count_max=10)
    [stale] = await store.take_transactions(service.database, taking)
    await service.hurry()
    [fresh] = await store.take_transactions(service.database, taking)
    assert await store.take_transactions(service.database, taking) == []
    async with service.database.begin_for_all() as tx:
        assert [row.epoch for row in await store.lock_taken_transactions(tx, [stale, fresh])] == [fresh.epoch]
    assert (await service.get(made.transaction_id)).status == T.PROCESSING


@both
async def test_while_an_attempt_that_nobody_knows_of_moves_money_at_the_provider_no_other_is_made(
    service: TransactionsHarness, kind: str
) -> None:
    made = await in_processing(service, kind)
    service.bank.before_effect.append(Killed())
    with pytest.raises(Killed):
        await service.run(submit_payments)
    orders = len(service.bank.orders)
    amount = Money(made.amount.amount_minor, made.amount.currency_code)
    unknown_one = Payment("pay_2", made.transaction_id, PaymentStatus.PENDING, amount, kind == "debit", 2, None)
    service.bank.payments["pay_2"] = unknown_one
    await service.hurry()
    await service.run(submit_payments)
    assert len(service.bank.orders) == orders
    assert (await service.get(made.transaction_id)).status == T.PROCESSING
    service.bank.payments["pay_2"] = replace(unknown_one, status=PaymentStatus.CANCELLED)  # a person saw to it
    assert (await until_submitted(service, made.transaction_id)).status == T.PENDING_SETTLEMENT


@both
async def test_what_another_worker_has_taken_meanwhile_is_not_sent_once_more(
    service: TransactionsHarness, kind: str
) -> None:
    """That one may call it lost and failed: by then it must not be on its way."""
    made = await in_processing(service, kind)
    service.bank.before_effect.append(Killed())
    with pytest.raises(Killed):
        await service.run(submit_payments)
    orders, look_up = len(service.bank.orders), service.bank.list_payments

    async def lose(*asked: Any) -> list[Payment]:
        service.bank.list_payments = look_up  # type: ignore[method-assign]
        await service.hurry()
        await store.take_transactions(service.database, store.build_taking(Status.PROCESSING, count_max=10))
        return await look_up(*asked)

    service.bank.list_payments = lose  # type: ignore[method-assign]
    await service.hurry()
    await service.run(submit_payments)
    assert len(service.bank.orders) == orders
    assert (await until_submitted(service, made.transaction_id)).status == T.PENDING_SETTLEMENT
    assert len(service.bank.payments) == 1


@pytest.mark.parametrize(
    ("sender", "status", "actions"),
    [
        (INVESTOR, T.QUEUED, ["cancel"]),
        (ADMIN, T.PENDING_APPROVAL, ["cancel"]),  # who made it is offered no decision
        (IMPORT, T.QUEUED, []),
    ],
    ids=lambda value: getattr(value, "role", None),
)
async def test_what_a_job_finishes_after_a_crash_is_answered_to_its_sender_as_a_read_answers(
    service: TransactionsHarness, sender: Principal, status: int, actions: list[str]
) -> None:
    request = await service.deposit_request()
    with service.wire.cut(service.compliance):  # as if the process had died before it could ask
        await service.ask(sender, "CreateTransaction", request)
    await service.hurry()
    await service.run(evaluate_initiated)
    replay = await service.ask(sender, "CreateTransaction", request)
    assert (replay.status, list(replay.allowed_actions)) == (status, actions)
    assert replay == await service.get(replay.transaction_id, sender)
    assert list(service.compliance.made) == [replay.transaction_id]


async def test_a_refusal_that_a_job_heard_first_is_the_requests_answer_too(service: TransactionsHarness) -> None:
    compliance = SlowCompliance()
    service = TransactionsHarness(service.database, compliance=compliance)
    compliance.uncleared["inv-001"] = "KYC is FAILED"
    request = await service.deposit_request()
    compliance.meanwhile = [service.hurry, partial(service.run, evaluate_initiated)]
    for _ in (1, 2):
        with pytest.raises(DomainError) as refusal:
            await service.ask(IMPORT, "CreateTransaction", request)
        assert refusal.value.reason == "PARTY_NOT_CLEARED"
    assert await service.path(refusal.value.metadata["transaction_id"]) == ["INITIATED", "FAILED"]


@pytest.mark.parametrize("kind", ["deposit", "payout"])
async def test_a_party_that_is_not_cleared_any_more_is_not_asked_for_money_and_sent_none(
    service: TransactionsHarness, kind: str
) -> None:
    """Between compliance's decision and the payment lie approvals, retries and days."""
    made = await getattr(service, kind)()
    await service.run(evaluate_initiated)
    service.compliance.uncleared = {made.party_id: "OFAC is FAILED"}
    await service.work()
    ended = await service.get(made.transaction_id)
    assert (ended.status, ended.failure.code, ended.failure.retryable) == (T.FAILED, "PARTY_NOT_CLEARED", False)
    assert ended.failure.message == "The party is not cleared: OFAC is FAILED."
    assert (ended.attempts, service.bank.payments, service.escrow.submitted) == (0, {}, [])


async def test_a_debit_is_not_presented_again_to_a_party_that_is_not_cleared_any_more(
    service: TransactionsHarness,
) -> None:
    made = await service.deposit()
    await service.work()
    service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R01", at=service.clock.now())
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.PENDING_RETRY
    service.compliance.uncleared = {made.party_id: "KYC is EXPIRED"}
    service.clock.advance(timedelta(days=10))
    await service.work()
    ended = await service.get(made.transaction_id)
    assert (ended.status, ended.failure.code, len(service.bank.payments)) == (T.FAILED, "PARTY_NOT_CLEARED", 1)


async def test_while_compliance_is_away_nothing_that_waits_is_started(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.run(evaluate_initiated)
    with service.wire.cut(service.compliance):
        await service.work(hurried=True)
        assert ((await service.get(made.transaction_id)).status, service.bank.payments) == (T.QUEUED, {})
    assert (await until_submitted(service, made.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_escrow_away_keeps_payouts_where_they_are_and_takes_the_money_once(service: TransactionsHarness) -> None:
    payout = await service.payout()
    with service.wire.cut(service.escrow):
        await service.work()
        assert (await service.get(payout.transaction_id)).status == T.QUEUED
    await service.hurry()
    await service.run(start_queued)
    with service.wire.cut(service.escrow):
        await service.work()
        assert (await service.get(payout.transaction_id)).status == T.PROCESSING
        assert service.bank.payments == {}
    await until_submitted(service, payout.transaction_id)
    assert service.escrow.submitted == [f"txn:{payout.transaction_id}:1:submit"]


async def test_a_payout_that_escrow_refuses_to_read_or_cannot_answer_for_waits_for_that_to_be_mended_and_stops_no_other(
    service: TransactionsHarness,
) -> None:
    answer = service.escrow.BatchBookPayouts
    for refusal in (InvalidField("It is new to this version."), AnswerWithheld("Somebody took its key.")):
        unread, good = await service.payout(), await service.payout("inv-002")

        async def refuse(request: Any, context: None, unread: Any = unread, refusal: DomainError = refusal) -> Any:
            if any(item.transaction_id == unread.transaction_id for item in request.items):
                raise refusal
            return await answer(request, context)

        service.escrow.BatchBookPayouts = refuse  # type: ignore[method-assign]
        await until_submitted(service, good.transaction_id)
        assert (await service.get(unread.transaction_id)).status == T.PROCESSING
        service.escrow.BatchBookPayouts = answer  # type: ignore[method-assign]
        await until_submitted(service, unread.transaction_id)


async def test_a_crash_after_escrow_took_the_money_asks_it_again_under_the_same_key(
    service: TransactionsHarness,
) -> None:
    payout = await service.payout()
    await service.run(evaluate_initiated)
    await service.run(start_queued)
    service.wire.fail("BatchBookPayouts", "killed_after")
    with pytest.raises(Killed):
        await service.run(book_payouts)
    assert (await until_submitted(service, payout.transaction_id)).status == T.PENDING_SETTLEMENT
    assert service.escrow.submitted == [f"txn:{payout.transaction_id}:1:submit"]


async def test_a_payment_with_another_amount_moves_nothing(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.work()
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    service.bank.payments[payment_id] = replace(service.bank.payments[payment_id], amount=Money(1, "USD"))
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


@pytest.mark.parametrize(
    "change",
    [
        "account_number_encrypted = 'x'",
        (
            "account_number_encrypted = (SELECT o.account_number_encrypted FROM bank_accounts o"
            " WHERE o.bank_account_id <> bank_accounts.bank_account_id LIMIT 1)"
        ),
        "routing_number = '011000015'",
        "account_holder_name = 'Eve Investor'",
        "account_type = 'SAVINGS'",
        "party_id = 'inv-002'",
    ],
)
async def test_a_bank_account_that_was_changed_in_the_database_moves_no_money_and_somebody_is_told(
    service: TransactionsHarness, postgres: servers.TestPostgres, change: str
) -> None:
    altered, good = await service.deposit(), await service.deposit("inv-002")
    taken = f"UPDATE bank_accounts SET version = version + 1, default_for_payouts = false, {change}"
    await servers.tamper(
        postgres.admin_dsn, service.database, f"{taken} WHERE bank_account_id = '{altered.bank_account_id}'"
    )
    before = count_found(ExceptionKind.BANK_ACCOUNT_ALTERED)
    await service.work()
    assert (await service.get(good.transaction_id)).status == T.PENDING_SETTLEMENT
    failed = await service.get(altered.transaction_id)
    assert (failed.status, failed.failure.code, failed.failure.retryable) == (
        T.FAILED,
        "BANK_ACCOUNT_NOT_USABLE",
        False,
    )
    assert len(service.bank.payments) == 1
    assert count_found(ExceptionKind.BANK_ACCOUNT_ALTERED) == before + 1
    async with service.database.begin_for_all() as tx:
        row = (await tx.execute(sa.select(bank_accounts).filter_by(bank_account_id=altered.bank_account_id))).one()
    assert (row.status, row.block_reason) == ("BLOCKED", "ALTERED")
