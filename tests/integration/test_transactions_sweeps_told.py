"""Whoever has money in a sweep hears of all that is wrong with it, whenever it becomes known whose it is."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from realco.transactions.v1 import exceptions_pb2
from realco.transactions.v1 import sweeps_pb2 as pb

from services.chassis.values.ids import new_id
from services.transactions.jobs.read_sweeps import read_sweeps
from tests.integration.stripe_desk import alter, pay_by_card, post, read
from tests.integration.sweep_desk import (
    OPERATOR,
    arrive,
    find_part,
    find_told,
    list_lines,
    pay_out,
    read_paid_out,
    sum_minor,
)
from tests.support.exceptions import list_exceptions
from tests.support.transactions import ADMIN, TransactionsHarness

pytest_plugins = ("tests.integration.stripe_desk", "tests.integration.sweep_desk")

E = exceptions_pb2.PaymentException
DAY = 86_400


@pytest.fixture
def service(sweep_service: TransactionsHarness) -> TransactionsHarness:
    return sweep_service


async def pay_out_hiding(service, url, books, minor: str = "333") -> tuple[dict[str, Any], str]:
    """A contribution by card is paid out with a movement that Stripe does not list there, whose id this is."""
    await pay_by_card(service, url)
    hidden = await post(url, "balance_transactions", type="topup", amount=minor)
    payout = await pay_out(url)
    await arrive(books, payout)
    alter(books, hidden["id"], _payout="elsewhere")
    return payout, str(hidden["id"])


@pytest.mark.parametrize("operator", ["", OPERATOR.org_id])
async def test_whoever_is_known_later_to_have_money_in_a_sweep_hears_then_that_it_went_elsewhere(
    service, url, books, operator
) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=operator)
    await pay_by_card(service, url)
    await read_paid_out(service, url, books)
    await pay_by_card(service, url)
    other = await pay_out(url, destination=f"ba_{new_id('x')}")
    await arrive(books, other)
    alter(books, other["id"], reconciliation_status="in_progress")
    await service.run(read_sweeps)
    assert await list_exceptions(service, kind=["SWEEP_REDIRECTED"]) == []
    alter(books, other["id"], reconciliation_status="completed")
    for _ in range(2):
        await service.run(read_sweeps)
        told = await find_told(service, other, "SWEEP_REDIRECTED")
        assert (told.status, told.occurrence_count) == (E.OPEN, 1)
    assert told.amount == (await find_part(service, other)).amount
    if operator:
        assert (await find_told(service, other, "SWEEP_REDIRECTED", OPERATOR)).occurrence_count == 1


async def test_whoever_is_known_later_to_have_money_in_a_sweep_hears_then_that_nobody_can_explain_it(
    service, url, books
) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    payout, hidden = await pay_out_hiding(service, url, books)
    alter(books, payout["id"], reconciliation_status="in_progress")
    await service.run(read_sweeps)
    assert "does not say" in (await find_told(service, payout, "SWEEP_NOT_EXPLAINED", OPERATOR)).cause
    alter(books, payout["id"], reconciliation_status="completed")
    for _ in range(2):
        await service.run(read_sweeps)
        for by in (ADMIN, OPERATOR):
            told = await find_told(service, payout, "SWEEP_NOT_EXPLAINED", by)
            assert ("3.33" in told.cause, told.occurrence_count) == (True, 1)
    alter(books, hidden, _payout=payout["id"])
    await service.run(read_sweeps)
    for by in (ADMIN, OPERATOR):
        assert "add up by now" in (await find_told(service, payout, "SWEEP_NOT_EXPLAINED", by)).cause


@pytest.mark.parametrize("days", [20, 45, 80])
async def test_a_sweep_is_compared_with_the_last_one_of_its_currency_however_old(service, url, books, days) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    now = int(time.time())
    for currency, age, destination in [("eur", days * DAY, "ba_1"), ("usd", 60, "ba_2"), ("eur", 0, "ba_3")]:
        payout = await post(url, "payouts", amount="500", currency="usd")
        alter(books, payout["id"], currency=currency, created=now - age, destination=destination)
        await arrive(books, payout)
        await service.run(read_sweeps)
    told = await list_exceptions(service, OPERATOR, kind=["SWEEP_REDIRECTED"])
    assert payout["id"] in {each.provider_payment_id for each in told}


async def test_a_sweep_in_which_nobody_has_money_hides_from_nobody_that_the_next_one_goes_elsewhere(
    service, url, books
) -> None:
    """Whoever signs in at Stripe has a cent paid to an account of its own first, and then all that is collected."""
    await pay_by_card(service, url)
    first, _ = await read_paid_out(service, url, books)
    thief = f"ba_{new_id('x')}"
    cent = await post(url, "payouts", amount="1", currency="usd")
    alter(books, cent["id"], destination=thief, created=read(books, first["id"])["created"] + 1)
    await arrive(books, cent)
    await service.run(read_sweeps)
    await pay_by_card(service, url)
    payout = await pay_out(url, destination=thief)
    alter(books, payout["id"], created=read(books, first["id"])["created"] + 2)
    await arrive(books, payout)
    await service.run(read_sweeps)
    assert "in which you have money" in (await find_told(service, payout, "SWEEP_REDIRECTED")).cause


async def test_a_sweep_is_not_explained_by_movements_that_took_the_place_of_those_that_are_kept(
    service, url, books
) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    payout, hidden = await pay_out_hiding(service, url, books)
    await service.run(read_sweeps)
    [line] = await list_lines(service)
    alter(books, line.provider_movement_id, _payout="elsewhere")
    alter(books, hidden, _payout=payout["id"], amount=payout["amount"], net=payout["amount"], fee=0)
    for _ in range(2):
        await service.run(read_sweeps)
        for by in (ADMIN, OPERATOR):
            assert not (await find_part(service, payout, by)).is_explained
        told = await find_told(service, payout, "SWEEP_NOT_EXPLAINED")
        assert (line.provider_movement_id in told.cause, told.occurrence_count) == (True, 1)
        theirs = await find_told(service, payout, "SWEEP_NOT_EXPLAINED", OPERATOR)
        assert ("not yours" in theirs.cause, line.provider_movement_id in theirs.cause) == (True, False)


async def test_a_movement_of_which_stripe_says_another_amount_by_now_explains_nothing(service, url, books) -> None:
    payout, _ = await pay_out_hiding(service, url, books)
    await service.run(read_sweeps)
    [line] = await list_lines(service)
    alter(books, line.provider_movement_id, amount=payout["amount"], net=payout["amount"], fee=0)
    await service.run(read_sweeps)
    part = await find_part(service, payout)
    assert (part.is_explained, part.amount) == (False, line.net)
    assert line.provider_movement_id in (await find_told(service, payout, "SWEEP_NOT_EXPLAINED")).cause


async def test_a_sweep_that_is_on_its_way_for_days_too_long_is_told_once_and_that_it_arrived_after_all(
    service, url, books
) -> None:
    await pay_by_card(service, url)
    payout = await pay_out(url)
    await arrive(books, payout)
    today = int(service.clock.now().timestamp())
    alter(books, payout["id"], status="in_transit", arrival_date=today - 4 * DAY)
    await service.run(read_sweeps)
    assert await list_exceptions(service, kind=["SWEEP_OVERDUE"]) == []
    alter(books, payout["id"], arrival_date=today - 6 * DAY)
    for _ in range(2):
        await service.run(read_sweeps)
        told = await find_told(service, payout, "SWEEP_OVERDUE")
        assert (told.status, told.severity, told.occurrence_count) == (E.OPEN, E.MEDIUM, 1)
        assert (await find_part(service, payout)).is_explained
    alter(books, payout["id"], status="paid")
    await service.run(read_sweeps)
    told = await find_told(service, payout, "SWEEP_OVERDUE")
    assert (told.cause, told.occurrence_count) == ("It has arrived by now.", 1)


@pytest.mark.parametrize("changes", [{"amount": 1}, {"destination": "ba_of_somebody"}, {"currency": "eur"}])
async def test_that_a_sweep_failed_is_told_whatever_else_stripe_says_otherwise_of_it(
    service, url, books, changes
) -> None:
    await pay_by_card(service, url)
    payout, before = await read_paid_out(service, url, books)
    alter(books, payout["id"], status="failed", failure_code="account_closed", **changes)
    for _ in range(2):
        await service.run(read_sweeps)
        part = await find_part(service, payout)
        assert (part.status, part.failure_code, part.amount) == (pb.Sweep.FAILED, "account_closed", before.amount)
        assert (await find_told(service, payout, "SWEEP_FAILED")).occurrence_count == 1
    assert "otherwise" not in (await find_told(service, payout, "SWEEP_NOT_EXPLAINED")).cause
    assert (await find_told(service, payout, "SWEEP_NOT_EXPLAINED")).occurrence_count == 2, "as often as it is said"


async def test_what_a_failed_sweep_had_left_is_counted_once_also_where_nobody_knew_at_first_whose_it_is(
    service, url, books
) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    failed, hidden = await pay_out_hiding(service, url, books)
    await service.run(read_sweeps)
    await post(url, f"payouts/{failed['id']}/fail")
    again, missing = await pay_out_hiding(service, url, books, "44")
    await service.run(read_sweeps)
    theirs = await find_part(service, again, OPERATOR)
    [line] = await list_lines(service, OPERATOR, sweep_id=[theirs.sweep_id])
    assert (line.kind, line.net.amount_minor) == (pb.SweepLine.FAILED_SWEEP, failed["amount"])
    alter(books, hidden, _payout=failed["id"])
    alter(books, missing, _payout=again["id"])
    await service.run(read_sweeps)
    parts = [await find_part(service, again, by) for by in (ADMIN, OPERATOR)]
    assert sum_minor(parts, "amount") == again["amount"]
    assert all(each.is_explained for each in parts)
