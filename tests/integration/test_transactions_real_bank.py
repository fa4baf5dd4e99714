"""The sandbox bank itself, a process with its own books and clock, carries what the service orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from realco.transactions.v1 import transactions_pb2 as pb

from services.transactions.providers.sandbox.bank import SandboxBank
from tests.support.sandbox_bank import SandboxProcess, sandbox_bank
from tests.support.transactions import MONDAY, TransactionsHarness

T = pb.Transaction


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """The real sandbox bank, a process of its own with its own books and clock."""
    with sandbox_bank(tmp_path_factory.mktemp("bank"), MONDAY) as running:
        yield running


@pytest.fixture
async def service_with_bank(service_database, bank: SandboxProcess) -> AsyncIterator[TransactionsHarness]:
    adapter = SandboxBank(bank.url, timeout_seconds=1)
    bank.travel(MONDAY)
    yield TransactionsHarness(await service_database("transactions"), provider=adapter)
    await adapter.close()


async def polled(service: TransactionsHarness, transaction_id: str, status: int) -> pb.Transaction:
    """Looks at the real bank until it says so."""
    for _ in range(200):
        await service.work(hurried=True)
        seen = await service.get(transaction_id)
        if seen.status == status:
            return seen
        await asyncio.sleep(0.05)
    raise AssertionError(f"it is still {T.Status.Name(seen.status)}")


async def test_r01_is_presented_again_and_settles_at_the_real_bank(
    service_with_bank: TransactionsHarness, bank: SandboxProcess
) -> None:
    service = service_with_bank
    made = await service.deposit(suffix="03")
    await polled(service, made.transaction_id, T.PENDING_SETTLEMENT)

    returned_on = MONDAY + timedelta(days=1)
    service.clock.set(returned_on)
    bank.travel(returned_on)
    waiting = await polled(service, made.transaction_id, T.PENDING_RETRY)
    assert (waiting.failure.metadata["network_code"], waiting.presentments) == ("R01", 1)
    assert waiting.next_attempt_time.ToJsonString() == "2024-12-06T14:00:00Z"

    again_on = MONDAY + timedelta(days=4, hours=3)
    service.clock.set(again_on)
    bank.travel(again_on)
    await polled(service, made.transaction_id, T.PENDING_SETTLEMENT)
    settled_on = MONDAY + timedelta(days=7)
    service.clock.set(settled_on)
    bank.travel(settled_on)
    settled = await polled(service, made.transaction_id, T.SETTLED)
    assert (settled.attempts, settled.presentments, settled.HasField("failure")) == (2, 2, False)
    events = (await service.events(made.transaction_id))[2:]
    names = "Queued Processing Submitted Returned RetryScheduled Queued Processing Submitted Settled"
    assert events == [f"Transaction{name}" for name in names.split()]


async def test_a_real_bank_in_trouble_takes_each_payment_once_and_the_truth_is_found(
    service_with_bank: TransactionsHarness,
) -> None:
    service = service_with_bank
    made = [await service.deposit(f"inv-{suffix}", suffix) for suffix in ("90", "91", "92", "94", "96", "97")]
    for each in made:
        settled = await polled(service, each.transaction_id, T.SETTLED)
        assert settled.attempts == 1
        assert len(await service.dependencies.providers.look_ups["sandbox"].list_payments(each.transaction_id)) == 1
