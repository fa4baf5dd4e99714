"""Webhooks in all orders: each is a hint to look, so the end is what the provider says last."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from realco.transactions.v1 import transactions_pb2

from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.store.webhooks import build_received, insert_all_read
from tests.support.bulk import create, vary
from tests.support.transactions import ADMIN, IMPORT, TransactionsHarness, usd

T = transactions_pb2.Transaction


@pytest.fixture
async def service(service_database: Any) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


# What became of a payment, each told by a webhook of its own: two say of each that it is so.
LIFE = [PaymentStatus.PENDING] * 2 + [PaymentStatus.SETTLED] * 2 + [PaymentStatus.RETURNED] * 2


async def test_in_whatever_order_six_webhooks_come_and_twice_each_the_end_is_the_same(
    service: TransactionsHarness,
) -> None:
    """A payment each: 90 orders, where the two that tell the same come in one order alone. None comes before what it
    tells has happened, and each comes again later."""
    in_order = [(0, 1), (2, 3), (4, 5)]
    orders = [
        each
        for each in itertools.permutations(range(len(LIFE)))
        if all(each.index(first) < each.index(second) for first, second in in_order)
    ]
    one = await service.deposit_request(amount=usd(1_00))
    made = [each.transaction.transaction_id for each in await create(service, IMPORT, (vary(one) for _ in orders))]
    await service.work()
    for step in range(len(LIFE) + 1):
        received = []
        for number, (transaction_id, order) in enumerate(zip(made, orders, strict=True)):
            happened = LIFE[max(order[: step + 1])]
            code = "R02" if happened is PaymentStatus.RETURNED else ""
            payment_id = service.bank.report(transaction_id, happened, code)
            for place in order[max(step - 1, 0) : step + 1]:  # the one before comes again
                told = ProviderEvent(f"evt_{number}_{place}", "payment.changed", payment_id)
                received.append(build_received("sandbox", told, b"{}", service.clock.now()))
        async with service.database.begin_for_all() as tx:
            await insert_all_read(tx, received)
        await service.work()
    for transaction_id in (made[0], made[-1]):
        assert (await service.get(transaction_id)).failure.metadata["network_code"] == "R02"
    assert await count_statuses(service) == {T.RETURNED: len(orders)}


async def count_statuses(service: TransactionsHarness) -> Counter[int]:
    listed = await service.ask(ADMIN, "ListTransactions", transactions_pb2.ListTransactionsRequest(page_size=1000))
    return Counter(each.status for each in listed.transactions)
