"""A wire or check that was announced and does not come ends by itself, and investors announce no more than so many."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.commands.inflow import ANNOUNCEMENTS_MAX
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
async def test_investors_announce_so_many_for_an_investment_and_staff_still_does(
    service: TransactionsHarness, is_batch: bool
) -> None:
    investment_id = service.distributions.invest("inv-001", 200_00)
    drawn = await service.deposit_request(investment_id=investment_id, amount=usd(1))
    wire = vary(drawn, payment_method=T.WIRE, bank_account_id=None)

    async def make(principal: Principal, request: pb.CreateTransactionRequest = wire) -> pb.Transaction:
        return await service.ask(principal, "CreateTransaction", vary(request))

    await make(ADMIN)  # what staff announces is none of them
    if is_batch:
        results = await create(service, INVESTOR, [vary(wire) for _ in range(ANNOUNCEMENTS_MAX + 2)])
        assert name_outcomes(results)[ANNOUNCEMENTS_MAX:] == ["TOO_MANY_ANNOUNCEMENTS"] * 2
        made = [each.transaction for each in results[:ANNOUNCEMENTS_MAX]]
    else:
        made = [await make(INVESTOR) for _ in range(ANNOUNCEMENTS_MAX)]
    assert {each.status for each in made} == {T.QUEUED}
    with pytest.raises(DomainError) as refusal:
        await make(INVESTOR)
    assert refusal.value.reason == "TOO_MANY_ANNOUNCEMENTS"
    assert [(await make(ADMIN)).status, (await make(INVESTOR, drawn)).status] == [T.QUEUED, T.QUEUED]

    said = {"transaction_id": made[0].transaction_id, "etag": made[0].etag}
    cancel = pb.CancelTransactionRequest(idempotency_key=new_id("key"), **said)
    await service.ask(INVESTOR, "CancelTransaction", cancel)
    assert (await make(INVESTOR)).status == T.QUEUED
