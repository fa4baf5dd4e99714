"""A refund that goes in parts is one debt: whoever looks at it reads all that stands still of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import transactions_pb2

from services.chassis.data.audit import audit_seals
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from services.transactions.tables import metadata
from tests.integration.test_transactions_refund_accounts import contribute, refund
from tests.integration.test_transactions_unpaid_payouts import (
    OTHER,
    grant_if_asked,
    send_back,
    settle,
    unpaid,
)
from tests.support.exceptions import resolve
from tests.support.transactions import ORG, TransactionsHarness, usd

T = transactions_pb2.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def contributed(service: TransactionsHarness, minor: int) -> Any:
    """So much that its bank can no longer take back."""
    paid = await contribute(service, "02", amount=usd(minor))
    service.clock.advance(timedelta(days=65))
    await service.work()
    return paid


async def send(service: TransactionsHarness, paid: Any, minor: int) -> Any:
    service.clock.advance(timedelta(minutes=1))
    made = await refund(service, paid, amount=usd(minor))
    await grant_if_asked(service, made)
    return made


async def fail(service: TransactionsHarness, made: Any) -> None:
    service.clock.advance(timedelta(minutes=1))
    await service.hook(f"evt_{new_id('key')}", service.bank.report(made.transaction_id, PaymentStatus.FAILED))
    await service.work()
    assert (await service.get(made.transaction_id)).status == T.FAILED


async def test_two_refunds_of_one_investment_that_come_back_are_owed_together(service: TransactionsHarness) -> None:
    paid = await contributed(service, 100_00)
    first, second = await send(service, paid, 99_99), await send(service, paid, 1)
    for made in (first, second):
        await settle(service, made)
    await send_back(service, first)
    [found] = await unpaid(service)
    assert (found.amount, "99.99 USD to inv-001 is not paid. " in found.cause) == (usd(99_99), True)
    await send_back(service, second)
    [both] = await unpaid(service)
    assert (both.amount, both.occurrence_count) == (usd(100_00), 2)
    assert both.cause.startswith(
        "Refund of a contribution: 100.00 USD to inv-001 is not paid, by several orders. The last was to pay 0.01 USD."
        f" {second.transaction_id} RETURNED, R03"
    )
    assert f"see the refundableAmount of {paid.investment_id}" in both.cause
    assert f"To send it again: POST /investments/{paid.investment_id}/refund/resend." in both.cause
    assert both.etag != found.etag, "whoever read a part of it does not resolve all"


async def test_a_part_that_is_sent_again_does_not_hide_the_other(service: TransactionsHarness) -> None:
    paid = await contributed(service, 80_00)
    first, second = await send(service, paid, 50_00), await send(service, paid, 30_00)
    for made in (first, second):
        await fail(service, made)
    [found] = await unpaid(service)
    assert found.amount == usd(80_00)
    again = await send(service, paid, 30_00)
    [found] = await unpaid(service)
    assert found.amount == usd(50_00)
    assert f"30.00 USD to inv-001 was ordered anew on 2025-02-05, as {again.transaction_id}." in found.cause
    assert "50.00 USD that stood still before is not in it" in found.cause
    await settle(service, again)
    [found] = await unpaid(service)
    assert (found.amount, found.occurrence_count) == (usd(50_00), 2)
    assert found.cause.startswith(f"30.00 USD has arrived at inv-001 since, by {again.transaction_id}.")
    assert "50.00 USD that stood still before is not in it" in found.cause
    last = await send(service, paid, 50_00)
    [found] = await unpaid(service)
    assert (found.amount, "stood still before" in found.cause) == (usd(0), False)
    await fail(service, last)
    [found] = await unpaid(service)
    assert (found.amount, "50.00 USD to inv-001 is not paid. " in found.cause) == (usd(50_00), True)


async def test_all_that_stands_still_is_sent_again_by_one_order(service: TransactionsHarness) -> None:
    paid = await contributed(service, 80_00)
    for made in (await send(service, paid, 50_00), await send(service, paid, 30_00)):
        await fail(service, made)
    again = await send(service, paid, 80_00)
    await settle(service, again)
    [found] = await unpaid(service)
    assert (found.amount, found.cause) == (
        usd(0),
        f"80.00 USD has arrived at inv-001 since, by {again.transaction_id}. Where no more is owed, resolve this.",
    )


async def test_a_part_that_arrives_says_nothing_of_one_that_came_to_nothing_meanwhile(
    service: TransactionsHarness,
) -> None:
    paid = await contributed(service, 80_00)
    first, second = await send(service, paid, 50_00), await send(service, paid, 30_00)
    await fail(service, first)
    before = await unpaid(service)
    await settle(service, second)
    assert await unpaid(service) == before
    assert before[0].amount == usd(50_00)


async def test_what_somebody_was_done_with_counts_no_more_once_another_part_comes_to_nothing(
    service: TransactionsHarness,
) -> None:
    paid = await contributed(service, 80_00)
    first, second = await send(service, paid, 50_00), await send(service, paid, 30_00)
    await fail(service, first)
    [found] = await unpaid(service)
    await resolve(service, found, "The investor asked to keep it here.", OTHER)
    await fail(service, second)
    [again] = await unpaid(service)
    assert (again.payment_exception_id, again.amount) == (found.payment_exception_id, usd(30_00))


async def test_a_refund_that_is_refused_twice_is_owed_once(service: TransactionsHarness) -> None:
    """Nobody has paid in by an account: there is none to refund to."""
    paid = transactions_pb2.Transaction(investment_id=new_id("inv"))
    for count in (1, 2):
        service.owe("inv-001")
        made = await service.payout_to(None, "inv-001", type=T.REFUND, investment_id=paid.investment_id)
        assert made.failure.code == "NO_PAYOUT_BANK_ACCOUNT"
        [found] = await unpaid(service)
        assert (found.amount, found.occurrence_count) == (usd(50_00), count)


async def test_who_hides_by_sql_that_money_stands_still_raises_an_alarm_until_that_is_found_again(
    service: TransactionsHarness,
) -> None:
    paid = await contributed(service, 80_00)
    await fail(service, await send(service, paid, 50_00))
    [found] = await unpaid(service)
    async with service.database.begin(ORG) as tx:
        hidden = "UPDATE payment_exceptions SET status = 'RESOLVED', resolved_by = 'bob', resolved_at = now(),"
        await tx.execute(sa.text(f"{hidden} resolution_note = 'x', version = version + 1"))
    assert await unpaid(service) == []
    alarms: dict[str, str] = {}
    await audit_seals(service.database, metadata, alarms).run()
    assert alarms == {"rows of payment_exceptions": "1 not sealed"}
    await fail(service, await send(service, paid, 50_00))
    [anew] = await unpaid(service)
    assert (anew.payment_exception_id != found.payment_exception_id, anew.amount) == (True, usd(50_00))
