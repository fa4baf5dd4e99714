"""What jobs ask about one by one, and write together."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import transactions_pb2 as pb

from services.transactions.jobs import batches
from services.transactions.jobs.start_queued import start_queued
from services.transactions.jobs.submit_payments import submit_payments
from tests.support import chassis
from tests.support.transactions import TransactionsHarness

T = pb.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def test_what_the_bank_answers_is_written_together_and_nobody_waits_for_the_slowest(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "GATHERING_SECONDS", 0.5)
    slow, *others = [await service.deposit() for _ in range(4)]
    await service.run(start_queued)
    submit, may_answer = service.bank.submit, asyncio.Event()

    async def answer(order):
        if order.reference == slow.transaction_id:
            await may_answer.wait()
        return await submit(order)

    async def are_written() -> bool:
        return {(await service.get(each.transaction_id)).status for each in others} == {T.PENDING_SETTLEMENT}

    monkeypatch.setattr(service.bank, "submit", answer)
    submitting = asyncio.create_task(service.run(submit_payments))
    await chassis.until(are_written)
    assert (await service.get(slow.transaction_id)).status == T.PROCESSING
    async with service.database.begin_for_all() as tx:
        written = sa.text("SELECT count(DISTINCT xmin::text) FROM transactions WHERE transaction_id = ANY (:ids)")
        assert await tx.scalar(written, {"ids": [each.transaction_id for each in others]}) == 1
    may_answer.set()
    assert await submitting == 4
    assert (await service.get(slow.transaction_id)).status == T.PENDING_SETTLEMENT
