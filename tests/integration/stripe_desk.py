"""The stand-in for Stripe, a process of its own, for tests of what talks to it; and what somebody could do there."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from pydantic import SecretStr
from realco.transactions.v1 import transactions_pb2, webhooks_pb2

from sandbox.signature import sign
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.providers.choice import Carriers, ProviderChoice
from services.transactions.providers.settings import ProviderSettings
from services.transactions.providers.stripe.payments import StripePayments
from tests.support.stand_ins import WEBHOOK_SECRET, WebhookReceiver, find_free_port, receive_webhooks, run_stand_in
from tests.support.transactions import ADMIN, INVESTOR, TransactionsHarness
from tests.support.vault import build_vault

T = transactions_pb2.Transaction
API_KEY = "sk_test_of_these_tests"
ROUTING_NUMBER = "110000000"
GOOD = "000123456789"
VAULT = build_vault()  # as the harness has it
RETURN_URL = "https://investors.example/paid"
BY_STRIPE = ProviderChoice(all_organizations={"ACH": Carriers(inbound="stripe"), "CARD": Carriers(inbound="stripe")})


@pytest.fixture(scope="module")
def webhooks() -> Iterator[WebhookReceiver]:
    with receive_webhooks("Stripe-Signature") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stripe") / "stripe.sqlite"


@pytest.fixture(scope="module")
def url(books: Path, webhooks: WebhookReceiver) -> Iterator[str]:
    port = find_free_port()
    environment = {
        "SANDBOX_STRIPE_PORT": str(port),
        "SANDBOX_STRIPE_DATABASE": str(books),
        "SANDBOX_STRIPE_API_KEY": API_KEY,
        "SANDBOX_STRIPE_WEBHOOK_URL": f"http://127.0.0.1:{webhooks.server.server_port}/",
        "SANDBOX_STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "SANDBOX_STRIPE_SETTLE_MS": "50",
        "SANDBOX_STRIPE_PAYOUT_MS": "86400000",  # a test has it paid out when it wants
    }
    with run_stand_in("sandbox.stripe", port, environment) as running:
        yield running


@pytest.fixture
async def stripe(url: str) -> AsyncIterator[StripePayments]:
    adapter = StripePayments(API_KEY, url, VAULT, return_url=RETURN_URL)
    yield adapter
    await adapter.close()


def confirm(url: str, intent_id: str, code: str = "SM11AA", *, says: str = "Thank you") -> None:
    """The holder says on Stripe's page what was deposited."""
    page = httpx.post(f"{url}/microdeposits/{intent_id}", data={"descriptor_code": code}, trust_env=False)
    assert says in page.text


def pay(url: str, payment_id: str, card: str = "pm_card_visa", *, says: str = "Thank you") -> None:
    """The payer enters a card on Stripe's page."""
    page = httpx.post(f"{url}/pay/{payment_id}", data={"card": card}, trust_env=False)
    assert says in page.text


async def post(url: str, path: str, **form: str) -> dict[str, Any]:
    """What somebody does who signs in at Stripe."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        answer: dict[str, Any] = (await client.post(f"/v1/{path}", data=form)).raise_for_status().json()
        return answer


async def answer_dispute(url: str, dispute_id: str, said: str) -> None:
    await post(url, f"disputes/{dispute_id}", **{"evidence[uncategorized_text]": said, "submit": "true"})


async def becomes(stripe: StripePayments, payment_id: str, status: PaymentStatus) -> Payment:
    for _ in range(200):
        payment = await stripe.get_payment(payment_id)
        assert payment is not None
        if payment.status is status:
            return payment
        await asyncio.sleep(0.02)
    raise AssertionError(f"it is still {payment.status}")


def alter(books: Path, object_id: str, **changes: Any) -> None:
    """What Stripe would show of an object after somebody there has changed it."""
    with sqlite3.connect(books, timeout=5) as connection:
        [body] = connection.execute("SELECT body FROM objects WHERE id = ?", (object_id,)).fetchone()
        changed = json.dumps(json.loads(body) | changes)
        connection.execute("UPDATE objects SET body = ? WHERE id = ?", (changed, object_id))


async def have_disputed(url: str, books: Path, payment_id: str) -> None:
    """Who paid on this page disputes it, however long ago that was."""
    intent = read(books, read(books, payment_id)["payment_intent"])
    alter(books, intent["latest_charge"], _card="pm_card_createDispute")
    with sqlite3.connect(books, timeout=5) as connection:
        connection.execute("UPDATE objects SET due_ms = 1 WHERE id = ?", (intent["id"],))
    await post(url, "customers", name="wakes the stand-in")


async def tell(service: TransactionsHarness, event_id: str, event_type: str, **about: str) -> None:
    """An event of Stripe's that the stand-in does not tell by itself."""
    event = {"id": event_id, "type": event_type, "livemode": False, "data": {"object": about}}
    body = json.dumps(event).encode()
    await deliver(service, [(body, sign(WEBHOOK_SECRET, body, int(time.time())))])


def read(books: Path, object_id: str) -> dict[str, Any]:
    with sqlite3.connect(books, timeout=5) as connection:
        [body] = connection.execute("SELECT body FROM objects WHERE id = ?", (object_id,)).fetchone()
    found: dict[str, Any] = json.loads(body)
    return found


async def _come_to_rest(books: Path) -> None:
    """What a test before left under way would be told later: of orders that the database of this one does not have.

    But pages that are open: they end in a day.
    """
    for _ in range(500):
        soon = (time.time() + 60) * 1_000
        with sqlite3.connect(books, timeout=5) as connection:
            [under_way] = connection.execute("SELECT count(*) FROM objects WHERE due_ms < ?", (soon,)).fetchone()
        if not under_way:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{under_way} objects are still under way at the stand-in")


@pytest.fixture
async def stripe_service(service_database, stripe: StripePayments, books: Path) -> TransactionsHarness:
    await _come_to_rest(books)
    settings = ProviderSettings(stripe_api_key=SecretStr(API_KEY), stripe_webhook_secret=SecretStr(WEBHOOK_SECRET))
    database = await service_database("transactions")
    return TransactionsHarness(database, provider=stripe, choice=BY_STRIPE, settings=settings)


async def deliver(service: TransactionsHarness, received: list[tuple[bytes, str]]) -> None:
    for body, signature in received:
        request = webhooks_pb2.ReceiveStripeWebhookRequest(body=HttpBody(data=body), signature=signature)
        await service.ask(ADMIN, "ReceiveStripeWebhook", request)


async def told_of(webhooks: WebhookReceiver, payment_id: str, kind: str) -> list[tuple[bytes, str]]:
    """Everything that was sent about it, once this kind of event is there."""
    for _ in range(500):
        found = [each for each in list(webhooks.received) if payment_id.encode() in each[0]]
        if any(f'"{kind}"'.encode() in body for body, _ in found):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"no {kind} was sent")


async def start_by_card(service: TransactionsHarness, **more: Any) -> Any:
    """A contribution that waits for its payer."""
    made = await service.deposit(**{"payment_method": T.CARD, "bank_account_id": None} | more)
    await service.work()
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.provider, seen.payer_action_url) == (T.PENDING_SETTLEMENT, "stripe", "")
    return seen


async def pay_by_card(service: TransactionsHarness, url: str, card: str = "pm_card_visa", **more: Any) -> Any:
    """A contribution that has arrived."""
    started = await start_by_card(service, **more)
    pay(url, started.provider_reference, card)
    await service.work(hurried=True)
    seen = await service.get(started.transaction_id)
    assert seen.status == T.SETTLED
    return seen


async def jump(service: TransactionsHarness, seen: Any, name: str) -> None:
    """To a time that the transaction says, and everything that is due then."""
    service.clock.set(getattr(seen, name).ToDatetime().astimezone(service.clock.now().tzinfo))
    await service.work(hurried=True)


async def start(service: TransactionsHarness, suffix: str = "02") -> Any:
    made = await service.deposit(suffix=suffix)
    await service.work()
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.provider, seen.payer_action_url) == (T.PENDING_SETTLEMENT, "stripe", "")
    request = transactions_pb2.GetTransactionRequest(transaction_id=made.transaction_id)
    payer = await service.ask(INVESTOR, "GetTransaction", request)
    assert payer.payer_action_url.endswith(f"/microdeposits/{seen.provider_reference}")
    listed = await service.ask(INVESTOR, "ListTransactions", transactions_pb2.ListTransactionsRequest())
    assert not any(each.HasField("payer_action_url") for each in listed.transactions), "no list is asked for its seals"
    return seen
