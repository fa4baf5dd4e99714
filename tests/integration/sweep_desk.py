"""Payouts of the stand-in for Stripe, made and read, for tests of what arrives at the custodian."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from realco.transactions.v1 import sweeps_pb2 as pb

from services.chassis.calls.auth import Principal
from services.transactions.jobs.read_sweeps import read_sweeps
from tests.integration.stripe_desk import T, alter, pay, post, read
from tests.support.exceptions import list_exceptions
from tests.support.transactions import ADMIN, TransactionsHarness

OTHER = Principal("admin-9", "admin", "org-2")
OPERATOR = Principal("operator-1", "admin", "org-operator")


@pytest.fixture
async def sweep_service(stripe_service: TransactionsHarness, url: str, books: Path) -> TransactionsHarness:
    """Nothing is in the balance at Stripe that tests before left there, and their payouts are as old as can be.

    Stripe says only in which second it made a payout, and one of another test may be of the same: what is before the
    first one of this test is a payout to the usual bank account, a second older.
    """
    await post(url, "balance_transactions", type="topup", amount="100000000")
    emptied = await pay_out(url)
    await arrive(books, emptied)
    with sqlite3.connect(books, timeout=5) as connection:
        connection.execute("UPDATE objects SET body = json_set(body, '$.created', 0) WHERE id LIKE 'po!_%' ESCAPE '!'")
    alter(books, emptied["id"], created=emptied["created"] - 1)
    return stripe_service


async def pay_out(url: str, **form: str) -> dict[str, Any]:
    return await post(url, "payouts/now", **form)


async def list_sweeps(service: TransactionsHarness, by: Principal = ADMIN, **filters: Any) -> list[Any]:
    return list((await service.ask(by, "ListSweeps", pb.ListSweepsRequest(**filters))).sweeps)


async def list_lines(service: TransactionsHarness, by: Principal = ADMIN, **filters: Any) -> list[Any]:
    return list((await service.ask(by, "ListSweepLines", pb.ListSweepLinesRequest(**filters))).sweep_lines)


async def find_told(service: TransactionsHarness, payout: dict[str, Any], kind: str, by: Principal = ADMIN) -> Any:
    """The exception about it: tests before have left other payouts at the stand-in."""
    [told] = [
        each for each in await list_exceptions(service, by, kind=[kind]) if each.provider_payment_id == payout["id"]
    ]
    return told


async def find_part(service: TransactionsHarness, payout: dict[str, Any], by: Principal = ADMIN) -> Any:
    [part] = [each for each in await list_sweeps(service, by) if each.provider_sweep_id == payout["id"]]
    return part


async def arrive(books, payout: dict[str, Any]) -> None:
    for _ in range(200):
        if read(books, payout["id"])["status"] == "paid":
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it is still on its way")


async def read_paid_out(service, url, books, **form: str) -> tuple[dict[str, Any], Any]:
    """All that is in the balance is paid out, arrives, and is read; what Stripe has, and what we do."""
    payout = await pay_out(url, **form)
    await arrive(books, payout)
    await service.run(read_sweeps)
    return payout, await find_part(service, payout)


def sum_minor(lines: list[Any], name: str = "net") -> int:
    return sum(getattr(line, name).amount_minor for line in lines)


async def pay_for_another_organization(service, url) -> str:
    """A contribution by card of an organization that shares the account at Stripe."""
    request = await service.deposit_request(payment_method=T.CARD, bank_account_id=None)
    made = await service.ask(Principal("service:import", "service", "org-2", "admin-9"), "CreateTransaction", request)
    await service.work()
    started = await service.get(made.transaction_id, OTHER)
    pay(url, started.provider_reference)
    return str(made.transaction_id)
