"""A wire or check that was announced and does not come ends by itself, and investors announce no more than so many."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.commands.inflow import UNSETTLED_PAYMENTS_MAX
from services.transactions.domain.payments import PaymentStatus
from services.transactions.jobs.end_announcements import end_announcements
from tests.support.arrivals import announce, confirm, correct
from tests.support.bulk import create, name_outcomes, vary
from tests.support.transactions import ADMIN, INVESTOR, TransactionsHarness, usd

T = pb.Transaction
WAIT = timedelta(days=30)


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def announce_as(service: TransactionsHarness, principal: Any, **more: Any) -> pb.Transaction:
    request = await service.deposit_request(payment_method=T.WIRE, bank_account_id=None, **more)
    return await service.ask(principal, "CreateTransaction", request)


@pytest.mark.parametrize("method", [T.WIRE, T.CHECK])
async def test_what_has_not_come_within_thirty_days_is_cancelled_and_says_why(
    service: TransactionsHarness, method: int
) -> None:
    waiting = await announce(service, method)
    assert waiting.announcement_end_time.ToDatetime() == waiting.create_time.ToDatetime() + WAIT
    assert waiting.explanations.announcement_end_time.rule == "ANNOUNCEMENT_WAIT"
    [listed] = (await service.ask(ADMIN, "ListTransactions", pb.ListTransactionsRequest())).transactions
    assert listed.announcement_end_time == waiting.announcement_end_time

    service.clock.advance(WAIT - timedelta(seconds=1))
    assert await service.run(end_announcements) == 0
    service.clock.advance(timedelta(seconds=1))
    await service.work()
    ended = await service.get(waiting.transaction_id)
    assert (ended.status, ended.failure.code) == (T.CANCELLED, "ANNOUNCEMENT_EXPIRED")
    assert not ended.HasField("announcement_end_time")
    assert await service.run(end_announcements) == 0


async def test_what_somebody_saw_come_is_waited_for_anew_and_what_is_confirmed_stays(
    service: TransactionsHarness,
) -> None:
    waiting = await announce(service)
    service.clock.advance(WAIT - timedelta(days=1))
    corrected = await correct(service, waiting, 75_00)
    assert corrected.announcement_end_time.ToDatetime() == corrected.update_time.ToDatetime() + WAIT
    service.clock.advance(WAIT - timedelta(days=1))
    again = await correct(service, corrected, 76_00)
    assert again.announcement_end_time.ToDatetime() == waiting.create_time.ToDatetime() + 2 * WAIT  # and no longer
    await service.work()
    done = await confirm(service, await service.get(waiting.transaction_id))
    assert not done.HasField("announcement_end_time")
    service.clock.advance(2 * WAIT)
    await service.work()
    assert (await service.get(done.transaction_id)).status == T.COMPLETED


async def test_a_payout_by_wire_waits_for_as_long_as_it_takes(service: TransactionsHarness) -> None:
    sent = await service.payout(payment_method=T.WIRE)
    await service.work()
    service.clock.advance(2 * WAIT)
    await service.work()
    read = await service.get(sent.transaction_id)
    assert read.status == T.PENDING_SETTLEMENT
    assert not read.HasField("announcement_end_time")


async def test_what_ended_leaves_its_room_to_others(service: TransactionsHarness) -> None:
    investment_id = service.distributions.invest("inv-001", 200_00)
    await announce(service, investment_id=investment_id, amount=usd(200_00))
    service.clock.advance(WAIT)
    await service.work()
    assert (await announce_as(service, ADMIN, investment_id=investment_id, amount=usd(200_00))).status == T.QUEUED


@pytest.mark.parametrize("is_batch", [False, True])
async def test_so_many_payments_of_investors_for_an_investment_have_not_settled_and_staff_still_orders(
    service: TransactionsHarness, is_batch: bool
) -> None:
    """By whatever rail: each takes its turn before everybody else's."""
    investment_id = service.distributions.invest("inv-001", 200_00)
    drawn = await service.deposit_request(investment_id=investment_id, amount=usd(1))
    wire = vary(drawn, payment_method=T.WIRE, bank_account_id=None)

    async def make(principal: Principal, request: pb.CreateTransactionRequest = wire) -> pb.Transaction:
        return await service.ask(principal, "CreateTransaction", vary(request))

    await make(ADMIN)  # what staff announces or has drawn is none of them
    await make(ADMIN, drawn)
    wanted = [vary((wire, drawn)[place % 2]) for place in range(UNSETTLED_PAYMENTS_MAX + 2)]
    if is_batch:
        results = await create(service, INVESTOR, wanted)
        assert name_outcomes(results)[UNSETTLED_PAYMENTS_MAX:] == ["TOO_MANY_UNSETTLED_PAYMENTS"] * 2
        made = [each.transaction for each in results[:UNSETTLED_PAYMENTS_MAX]]
    else:
        made = [await make(INVESTOR, each) for each in wanted[:UNSETTLED_PAYMENTS_MAX]]
    assert {each.status for each in made} == {T.QUEUED}
    for request in (wire, drawn):
        with pytest.raises(DomainError) as refusal:
            await make(INVESTOR, request)
        assert refusal.value.reason == "TOO_MANY_UNSETTLED_PAYMENTS"
    assert [(await make(ADMIN)).status, (await make(ADMIN, drawn)).status] == [T.QUEUED, T.PENDING_APPROVAL]

    said = {"transaction_id": made[0].transaction_id, "etag": made[0].etag}
    cancel = pb.CancelTransactionRequest(idempotency_key=new_id("key"), **said)
    await service.ask(INVESTOR, "CancelTransaction", cancel)
    assert (await make(INVESTOR)).status == T.QUEUED

    await service.work()
    await service.hook("evt_1", service.bank.report(made[1].transaction_id, PaymentStatus.SETTLED))
    await service.work()
    assert (await make(INVESTOR, drawn)).status == T.QUEUED
