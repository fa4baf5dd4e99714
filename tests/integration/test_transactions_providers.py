"""One body of tests for every provider that is asked, each as it is; and the sandbox bank in every kind of trouble."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import time as time_of_day
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import pytest

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.values.clock import FakeClock
from services.chassis.values.ids import new_id
from services.chassis.values.money import Money
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.providers.ach_file.config import AchFileConfig
from services.transactions.providers.ach_file.nacha import Company
from services.transactions.providers.ach_file.orders import AchFileOrders
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.protocols import Declined, OutcomeUnknown, PaymentOrder
from services.transactions.providers.sandbox.bank import SandboxBank
from services.transactions.providers.stripe.payments import StripePayments
from tests.integration.stripe_desk import API_KEY, RETURN_URL, VAULT
from tests.support.memory_bank import MemoryBank
from tests.support.payment_orders import an_order
from tests.support.sandbox_bank import SandboxProcess, sandbox_bank
from tests.support.transactions import ACCOUNT, MONDAY, ORG

pytest_plugins = ("tests.integration.stripe_desk", "tests.integration.plaid_desk")


@pytest.fixture(scope="module")
def plaid_settle_ms() -> int:
    return 60_000


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory):
    with sandbox_bank(tmp_path_factory.mktemp("bank"), MONDAY) as running:
        yield running


# What each provider declines, whether it may be ordered again, and whether it pays out.
DECLINED = {
    "sandbox": (an_order(f"{ACCOUNT}93"), True),
    "memory": (an_order(f"{ACCOUNT}93"), True),
    "stripe": (replace(an_order(), account_number="000777777771"), False),
    "stripe cards": (replace(an_order(), amount=Money(10**12, "USD")), False),
    "plaid": (replace(an_order(), account_number="000777777771"), True),
    "ach_file": (replace(an_order(), amount=Money(10**10, "USD")), False),
}
PAY_OUT = {"sandbox", "memory", "plaid", "ach_file"}


class Bank(NamedTuple):
    """A provider, by the name of its package; `memory` is the one that other tests trust."""

    name: str
    adapter: Any

    def an_order(self, **more: Any) -> PaymentOrder:
        """By the rail that is asked about."""
        order = DECLINED[self.name][0] if more.pop("is_declined", False) else an_order()
        by_card = {"payment_method": "CARD", "bank_account_id": ""} if self.name == "stripe cards" else {}
        return replace(order, **by_card | more)


@pytest.fixture(params=list(DECLINED))
async def bank(
    request: pytest.FixtureRequest,
    process: SandboxProcess,
    url: str,
    plaid_adapter: PlaidTransfers,
    service_database,
    tmp_path: Path,
) -> AsyncIterator[Bank]:
    match request.param:
        case "memory":
            yield Bank(request.param, MemoryBank())
            return
        case "sandbox":
            adapter: Any = SandboxBank(process.url)
        case "stripe" | "stripe cards":
            adapter = StripePayments(API_KEY, url, VAULT, return_url=RETURN_URL)
        case "plaid":
            adapter = plaid_adapter
        case _:
            company = Company("091000019", "Bank", "1234567890", "RealCo", "09100001", "RealCo", "1234567890")
            config = AchFileConfig(tmp_path, tmp_path, [time_of_day(20, 30)], company)
            adapter = AchFileOrders(config, await service_database("transactions"), FakeClock(MONDAY), VAULT)
    with acting_as(service_principal("transactions", ORG)):
        yield Bank(request.param, adapter)
    await adapter.close()


async def until(probe: Callable[[], Awaitable[bool]], limit_seconds: float = 10) -> None:
    deadline = time.monotonic() + limit_seconds
    while not await probe():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("is_inbound", [True, False])
async def test_an_order_is_accepted_and_found_by_its_id_and_our_reference(bank: Bank, is_inbound: bool) -> None:
    order = bank.an_order(is_inbound=is_inbound)
    if not is_inbound and bank.name not in PAY_OUT:
        with pytest.raises(Declined):
            await bank.adapter.submit(order)
        return
    payment = await bank.adapter.submit(order)
    assert (payment.status, payment.amount, payment.is_inbound) == (PaymentStatus.PENDING, order.amount, is_inbound)
    assert (payment.reference, payment.presentment) == (order.reference, 1)
    assert await bank.adapter.get_payment(payment.payment_id) == payment
    assert await bank.adapter.list_payments(order.reference) == [payment]


async def test_the_same_key_is_the_same_payment(bank: Bank) -> None:
    order = bank.an_order()
    first, again = await bank.adapter.submit(order), await bank.adapter.submit(order)
    assert first.payment_id == again.payment_id
    assert len(await bank.adapter.list_payments(order.reference)) == 1


async def test_two_presentments_are_two_payments_newest_first(bank: Bank) -> None:
    first = bank.an_order()
    second = replace(first, key=f"txn:{first.reference}:2", presentment=2)
    ids = [(await bank.adapter.submit(order)).payment_id for order in (first, second)]
    assert [payment.payment_id for payment in await bank.adapter.list_payments(first.reference)] == ids[::-1]


async def test_a_decline_is_definite_and_leaves_nothing(bank: Bank) -> None:
    order, retryable = bank.an_order(is_declined=True), DECLINED[bank.name][1]
    for _ in range(2):
        with pytest.raises(Declined) as refusal:
            await bank.adapter.submit(order)
        assert refusal.value.retryable is retryable
    assert await bank.adapter.list_payments(order.reference) == []


async def test_nothing_is_found_where_nothing_is(bank: Bank) -> None:
    assert await bank.adapter.list_payments(new_id("txn")) == []
    assert await bank.adapter.get_payment("pay_nothing") is None


@pytest.mark.parametrize("suffix", ["90", "91", "92", "94", "96", "97"])
async def test_a_bank_in_trouble_leaves_the_outcome_unknown_and_pays_once(process: SandboxProcess, suffix: str) -> None:
    bank = SandboxBank(process.url, timeout_seconds=0.5)
    order = an_order(f"{ACCOUNT}{suffix}")
    with pytest.raises(OutcomeUnknown):
        await bank.submit(order)

    async def accepted() -> bool:
        try:
            return (await bank.submit(order)).amount == order.amount
        except OutcomeUnknown:
            return False

    await until(accepted)
    [payment] = await bank.list_payments(order.reference)
    assert payment.amount == order.amount
    await bank.close()


async def test_data_the_bank_cannot_read_is_declined_for_good(process: SandboxProcess) -> None:
    bank = SandboxBank(process.url)
    with pytest.raises(Declined) as refusal:
        await bank.submit(replace(an_order(), account_number="12AB"))
    assert (refusal.value.code, refusal.value.retryable) == ("INVALID_PAYMENT_DATA", False)
    await bank.close()


async def test_a_settled_payment_tells_when_it_settled(process: SandboxProcess) -> None:
    bank = SandboxBank(process.url)
    payment_id = (await bank.submit(an_order(f"{ACCOUNT}01"))).payment_id
    seen: list[Payment] = []

    async def settled() -> bool:
        payment = await bank.get_payment(payment_id)
        assert payment is not None
        seen.append(payment)
        return payment.status is PaymentStatus.SETTLED

    await until(settled)
    assert seen[-1].changed_at is not None
    assert seen[-1].changed_at.date() == MONDAY.date()
    await bank.close()


PAYMENT = (
    b'{"id":"pay_1","reference":"%s","status":"pending","amount_minor":%s,"currency":"USD","direction":"debit",'
    b'"presentment":1,"updated_at":"2024-12-02T12:00:00+00:00"}'
)
ANSWER = PAYMENT % (b"%REFERENCE%", b"10000")


@pytest.mark.parametrize(("status", "body"), [
    (200, b"<html>It works!"),
    (200, b"[]"),
    (200, b'{"id": 7}'),
    (200, PAYMENT % (b"another", b"10000")),
    (200, PAYMENT % (b"%REFERENCE%", b"10001")),
    (200, PAYMENT % (b"%REFERENCE%", b"-10000")),
    (200, PAYMENT % (b"%REFERENCE%", b"100.00")),
    (200, PAYMENT % (b"%REFERENCE%", b'"10000"')),
    (200, ANSWER.replace(b"pay_1", b"pay_\\u0000")),
    (200, ANSWER.replace(b"pay_1", b"")),
    (200, ANSWER.replace(b"pay_1", b"p" * 256)),
    (200, ANSWER.replace(b"USD", b"QQQ")),
    (200, ANSWER.replace(b"+00:00", b"")),  # of which zone?
    (200, ANSWER.replace(b"2024-", b"9999-")),
    (200, ANSWER.replace(b"2024-", b"0001-")),
    (200, b" " * (300 * 1024)),
    (302, b""),
    (401, b""),
    (404, b"{}"),
    (409, b'{"code": "idempotency_key_reused"}'),
    (429, b""),
    (500, b""),
])  # fmt: skip
async def test_an_answer_that_is_not_our_payment_proves_nothing(status: int, body: bytes) -> None:
    order = an_order()
    answer = body.replace(b"%REFERENCE%", order.reference.encode())

    class Stranger(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Location", "http://169.254.169.254/")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        bank = SandboxBank(f"http://127.0.0.1:{server.server_port}", timeout_seconds=2)
        with pytest.raises(OutcomeUnknown):
            await bank.submit(order)
        await bank.close()
        server.shutdown()


async def test_a_bank_that_drips_is_not_waited_for() -> None:
    stopped = Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not stopped.wait(0.1):
                self.wfile.write(b" ")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        bank = SandboxBank(f"http://127.0.0.1:{server.server_port}", timeout_seconds=0.5)
        with pytest.raises(OutcomeUnknown):
            await bank.get_payment("pay_1")
        stopped.set()
        await bank.close()
        server.shutdown()


async def test_a_bank_that_is_away_is_unknown_not_failed() -> None:
    bank = SandboxBank("http://127.0.0.1:9", timeout_seconds=0.5)
    for call in (bank.submit(an_order()), bank.list_payments("txn_1"), bank.get_payment("pay_1")):
        with pytest.raises(OutcomeUnknown):
            await call
    await bank.close()


@pytest.mark.parametrize("payment_id", ["../statement", "pay_1?x=1", "pay_1/cancel", "", "pä"])
async def test_an_id_from_outside_names_no_other_path(process: SandboxProcess, payment_id: str) -> None:
    bank = SandboxBank(process.url)
    assert await bank.get_payment(payment_id) is None
    await bank.close()
