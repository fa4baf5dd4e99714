"""Exceptions are locked in one order, whatever the order in which a transaction finds them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from realco.transactions.v1 import exceptions_pb2

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import Failure
from services.transactions.commands.bank_accounts import block_altered_accounts
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.store import moves
from services.transactions.store import transactions as store
from services.transactions.store.exception_reports import note_cause, report
from tests.integration.test_transactions_unpaid_payouts import settle, unpaid
from tests.support.exceptions import list_exceptions
from tests.support.statements import list_sent
from tests.support.transactions import ORG, TransactionsHarness

E = exceptions_pb2.PaymentException
# A pair that one transaction finds as it stands, and another the other way round.
PAIR = ("one", "two")


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def at_once(
    service: TransactionsHarness, orders: Sequence[Sequence[Any]], do: Callable[[Tx, Any], Awaitable[None]]
) -> None:
    """Each order in a transaction of its own, which goes on once every other has done its first."""
    all_began = asyncio.Barrier(len(orders))

    async def work(order: Sequence[Any]) -> None:
        with acting_as(service_principal("transactions", ORG)):
            async with service.database.begin() as tx:
                for each in order:
                    await do(tx, each)
                    if each is order[0]:
                        await all_began.wait()

    await asyncio.gather(*map(work, orders))


async def test_two_that_find_the_same_in_another_order_do_not_wait_for_each_other(service: TransactionsHarness) -> None:
    async def find(tx: Tx, name: str) -> None:
        report(tx, ExceptionKind.PAID_TWICE, About(transaction_id=name), "Two payments.", service.clock.now())

    await at_once(service, [PAIR, PAIR[::-1]], find)
    assert [each.occurrence_count for each in await list_exceptions(service)] == [2, 2]


async def test_payouts_of_the_same_debts_that_end_at_once_in_another_order_are_all_recorded(
    service: TransactionsHarness,
) -> None:
    """Two shares come back while their next attempts are under way: payouts are locked in the order of their ids."""

    async def pay(allocation_id: str) -> Any:
        service.owe("inv-001")
        made = await service.payout_to(None, "inv-001", distribution_id="dist_1", allocation_id=allocation_id)
        await service.work()
        return made

    await service.payout(distribution_id="dist_1", allocation_id="all_0")
    await service.work()
    returned = [await pay("all_1"), await pay("all_2")]
    for each in returned:
        await settle(service, each)
    failed = [await pay("all_2"), await pay("all_1")]
    ends = {each.transaction_id: Status.RETURNED for each in returned}
    ends |= {each.transaction_id: Status.FAILED for each in failed}

    async def end(tx: Tx, made: Any) -> None:
        row = await store.lock_transaction(tx, made.transaction_id)
        assert isinstance(row, Transaction)
        now, failure = service.clock.now(), Failure("DECLINED", "It was refused.")
        await moves.save_move(tx, row, ends[row.transaction_id], actor="bank", now=now, failure=failure)

    await at_once(service, [returned, failed], end)
    assert sorted(each.occurrence_count for each in await unpaid(service)) == [2, 2]


async def test_altered_accounts_are_blocked_in_the_order_of_their_ids_whichever_payment_was_to_use_them(
    service: TransactionsHarness,
) -> None:
    accounts = sorted([(await service.bank_account("inv-001", each)).bank_account_id for each in ("02", "03")])
    locked: list[list[str]] = []

    async def block(tx: Tx, used: dict[str, str]) -> None:
        locked.append([*await block_altered_accounts(tx, used, service.clock.now())])

    for used in (dict(zip(PAIR, accounts, strict=True)), dict(zip(PAIR, accounts[::-1], strict=True))):
        await at_once(service, [[used]], block)
    assert locked == [["one", "two"], ["two", "one"]], "the same accounts, in the same order"
    found = await list_exceptions(service, kind=["BANK_ACCOUNT_ALTERED"])
    assert sorted((each.bank_account_id, each.occurrence_count) for each in found) == [(each, 2) for each in accounts]


async def test_what_a_transaction_finds_of_one_thing_is_written_in_the_order_in_which_it_was_found(
    service: TransactionsHarness,
) -> None:
    about, kind, now = About(transaction_id="one"), ExceptionKind.PAID_TWICE, service.clock.now()

    async def find(tx: Tx, _: str) -> None:
        report(tx, kind, about, "Two payments.", now)
        note_cause(tx, kind, about, "One of them came back.", now)

    await at_once(service, [["once"]], find)
    [found] = await list_exceptions(service)
    assert (found.cause, found.status, found.occurrence_count) == ("One of them came back.", E.OPEN, 1)


async def test_however_many_are_found_with_one_fact_they_are_written_by_as_many_statements(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, counts = list_sent(monkeypatch), list[int]()
    for many in (2, 200):
        sent.clear()
        with acting_as(service_principal("transactions", ORG)):
            async with service.database.begin() as tx:
                for number in range(many):
                    about = About(transaction_id=f"{many} {number}")
                    report(tx, ExceptionKind.PAID_TWICE, about, "Two payments.", service.clock.now())
        counts.append(len(sent))
    assert counts[0] == counts[1] > 0
    assert len(await list_exceptions(service, page_size=1000)) == 202


async def test_what_is_found_twice_with_one_fact_was_found_twice(service: TransactionsHarness) -> None:
    with acting_as(service_principal("transactions", ORG)):
        async with service.database.begin() as tx:
            for name in ("one", "two", "one"):
                report(tx, ExceptionKind.PAID_TWICE, About(transaction_id=name), name, service.clock.now())
    assert {each.cause: each.occurrence_count for each in await list_exceptions(service)} == {"one": 2, "two": 1}
