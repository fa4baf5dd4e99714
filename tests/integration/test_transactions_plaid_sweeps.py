"""What Plaid moves between its balance and the custodian's bank account, both ways, over its stand-in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from realco.transactions.v1 import sweeps_pb2 as pb
from structlog.testing import capture_logs

from services.chassis.values.ids import new_id
from services.transactions.jobs.read_sweeps import read_sweeps
from services.transactions.providers.plaid import sweeps as adapter
from tests.integration.plaid_desk import alter, ask, read, simulate
from tests.integration.sweep_desk import find_part, find_told, list_lines, list_sweeps, sum_minor
from tests.support.transactions import ROUTING_NUMBER, TransactionsHarness, usd

pytest_plugins = ("tests.integration.plaid_desk",)


@pytest.fixture
def service(plaid_service: TransactionsHarness) -> TransactionsHarness:
    return plaid_service


async def settle(service: TransactionsHarness, plaid_books, made: Any) -> Any:
    """The transaction, once its transfer has settled at Plaid."""
    await service.work()
    transfer_id = (await service.get(made.transaction_id)).provider_reference
    for _ in range(200):
        if read(plaid_books, transfer_id)["status"] == "funds_available":
            await service.work(hurried=True)
            return await service.get(made.transaction_id)
        await asyncio.sleep(0.02)
    raise AssertionError("it has not settled")


async def sweep(url: str, plaid_books, **asked: Any) -> dict[str, Any]:
    """All that has settled is swept, and arrives."""
    made = ask(url, "/sandbox/transfer/sweep/simulate", **asked)["sweep"]
    for _ in range(200):
        if read(plaid_books, made["id"])["status"] == "settled":
            return dict(made)
        await asyncio.sleep(0.02)
    raise AssertionError("it is still on its way")


async def test_what_plaid_drew_and_paid_is_in_its_sweep_to_the_cent_and_a_return_in_the_next_one(
    service, plaid_url, plaid_books
) -> None:
    debit = await settle(service, plaid_books, await service.deposit())
    paid = await settle(service, plaid_books, await service.payout("inv-002", "03"))
    first = await sweep(plaid_url, plaid_books)
    await service.run(read_sweeps)
    part = await find_part(service, first)
    lines = await list_lines(service, sweep_id=[part.sweep_id])
    assert (part.provider, part.status, part.is_explained) == ("plaid", pb.Sweep.SETTLED, True)
    assert sorted((line.transaction_id, line.net.amount_minor) for line in lines) == sorted(
        [(debit.transaction_id, 100_00), (paid.transaction_id, -50_00)]
    )
    assert (first["amount"], part.amount, sum_minor(lines, "fee")) == ("50.00", usd(50_00), 0)
    assert {line.kind for line in lines} == {pb.SweepLine.PAYMENT}
    simulate(plaid_url, debit.provider_reference, "returned", code="R10")
    second = await sweep(plaid_url, plaid_books)
    await service.run(read_sweeps)
    [back] = await list_lines(service, sweep_id=[(await find_part(service, second)).sweep_id])
    assert (second["amount"], back.transaction_id, back.net) == ("-100.00", debit.transaction_id, usd(-100_00))
    assert back.kind == pb.SweepLine.RETURN
    seen = await list_sweeps(service), await list_lines(service)
    await service.run(read_sweeps)
    assert (await list_sweeps(service), await list_lines(service)) == seen


async def test_a_sweep_that_comes_back_is_told_and_so_is_another_account(service, plaid_url, plaid_books) -> None:
    await settle(service, plaid_books, await service.deposit())
    first = await sweep(plaid_url, plaid_books)
    await service.run(read_sweeps)
    ask(plaid_url, "/sandbox/sweep/fail", sweep_id=first["id"])
    await settle(service, plaid_books, await service.deposit(suffix="03"))
    other = await sweep(plaid_url, plaid_books, funding_account_id=new_id("acc"))
    await service.run(read_sweeps)
    part = await find_part(service, first)
    assert (part.status, part.failure_code) == (pb.Sweep.FAILED, "R02")
    assert (await find_told(service, first, "SWEEP_FAILED")).amount == usd(100_00)
    assert (await find_told(service, other, "SWEEP_REDIRECTED")).amount == usd(100_00)


async def test_all_pages_of_sweeps_and_of_their_events_are_read(service, plaid_url, plaid_books, monkeypatch) -> None:
    monkeypatch.setattr(adapter, "_LISTED_MAX", 2)
    accounts = [
        await service.bank_account("inv-001", suffix=f"1{number}", routing_number=ROUTING_NUMBER) for number in range(3)
    ]
    more = {"investment_id": service.distributions.invest("inv-001", 1_000_00)}
    made = [await service.deposit(bank_account_id=each.bank_account_id, **more) for each in accounts]
    settled = [await settle(service, plaid_books, each) for each in made]
    swept = await sweep(plaid_url, plaid_books)
    await service.run(read_sweeps)
    lines = await list_lines(service, sweep_id=[(await find_part(service, swept)).sweep_id])
    assert {line.transaction_id for line in lines} == {each.transaction_id for each in settled}


async def test_amounts_that_are_none_hold_up_their_sweep_alone(service, plaid_url, plaid_books) -> None:
    await settle(service, plaid_books, await service.deposit())
    odd = await sweep(plaid_url, plaid_books)
    alter(plaid_books, odd["id"], amount="1e2")
    await settle(service, plaid_books, await service.deposit(suffix="03"))
    good = await sweep(plaid_url, plaid_books)
    with capture_logs() as logs:
        await service.run(read_sweeps)
    assert odd["id"] in {each.get("sweep_id") for each in logs if each["event"] == "sweep_not_read"}
    assert (await find_part(service, good)).is_explained
    assert odd["id"] not in {each.provider_sweep_id for each in await list_sweeps(service)}
    alter(plaid_books, odd["id"], amount=odd["amount"])
    await service.run(read_sweeps)
    assert (await find_part(service, odd)).amount == usd(100_00)
