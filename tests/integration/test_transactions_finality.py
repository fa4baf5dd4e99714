"""What arrived is looked at until it is final: time alone ends no return risk, and makes nothing final."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from realco.transactions.v1 import transactions_pb2

from services.chassis.data.overdue import OverdueWatch
from services.chassis.values.money import Money
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.jobs import WORK
from services.transactions.jobs.watch_settled import watch_settled
from tests.support.transactions import MONDAY, TransactionsHarness

T = transactions_pb2.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def test_a_late_return_whose_webhook_is_lost_is_found_until_the_payment_is_final(
    service: TransactionsHarness,
) -> None:
    debit, payout, kept = await service.deposit(), await service.payout("inv-002"), await service.payout("inv-003")
    await service.work()
    for made in (debit, payout, kept):
        service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    service.clock.advance(timedelta(days=1))
    assert await service.run(watch_settled) == 3  # nothing came back; all are looked at again
    assert (await service.get(debit.transaction_id)).status == T.SETTLED

    service.bank.report(payout.transaction_id, PaymentStatus.RETURNED, "R02", at=service.clock.now())
    service.clock.advance(timedelta(days=29))
    assert await service.run(watch_settled) == 3  # the debit completes
    service.bank.report(debit.transaction_id, PaymentStatus.RETURNED, "R10", at=service.clock.now())
    service.clock.advance(timedelta(days=1))
    assert await service.run(watch_settled) == 1
    for made, code in ((debit, "R10"), (payout, "R02")):
        seen = await service.get(made.transaction_id)
        assert (seen.status, seen.failure.metadata["network_code"]) == (T.RETURNED, code)
    assert (await service.get(kept.transaction_id)).finality == T.FINAL
    service.clock.advance(timedelta(days=99))
    assert await service.run(watch_settled) == 0  # final, or come back: nobody looks any more


async def test_nothing_completes_or_becomes_final_until_the_bank_says_after_its_time_that_the_money_is_there(
    service: TransactionsHarness,
) -> None:
    alarms: dict[str, str] = {}
    bank, late = service.bank, {}
    answers: dict[str, Callable[[Payment], Payment | None]] = {
        "says nothing": lambda payment: bank.silent.add(payment.payment_id) or payment,
        "has no such payment": lambda payment: None,
        "says less than it did": lambda payment: replace(payment, status=PaymentStatus.PENDING),
        "says what cannot be": lambda payment: replace(payment, status=PaymentStatus.FAILED),
        "says another amount": lambda payment: replace(payment, amount=Money(1, "USD")),
    }
    for number, answer in enumerate(answers):
        late[answer] = (await service.deposit(f"inv-{number}")).transaction_id
    await service.work()
    payment_ids = {answer: bank.report(late[answer], PaymentStatus.SETTLED, at=MONDAY) for answer in answers}
    await service.work(hurried=True)
    before = dict(bank.payments)
    bank.payments = {}
    for answer, change in answers.items():
        if changed := change(before[payment_ids[answer]]):
            bank.payments[changed.payment_id] = changed
    service.clock.advance(timedelta(days=99))
    await service.work()
    for answer, transaction_id in late.items():
        seen = await service.get(transaction_id)
        assert (seen.status, seen.finality) == (T.SETTLED, T.PROVISIONAL), answer
    await OverdueWatch(service.database, service.clock, alarms, WORK).look()
    assert alarms == {"overdue transactions": "5 wait for longer than they should"}

    bank.payments, bank.silent = before, set()
    came_back = late.popitem()[1]
    bank.report(came_back, PaymentStatus.RETURNED, "R10", at=service.clock.now())
    await service.hurry()
    await service.work()
    for answer, transaction_id in late.items():
        seen = await service.get(transaction_id)
        assert (seen.status, seen.finality) == (T.COMPLETED, T.FINAL), answer
    assert (await service.get(came_back)).status == T.RETURNED
