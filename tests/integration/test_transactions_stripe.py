"""ACH debits by Stripe, ordered with its own SDK of the stand-in: a process of its own over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from pydantic import SecretStr
from realco.transactions.v1 import transactions_pb2, webhooks_pb2

from services.chassis.process.settings import ConfigurationError
from services.chassis.values.ids import new_id
from services.chassis.values.money import Money
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.domain.rails import RAILS
from services.transactions.providers.choice import Carriers, ProviderChoice, read_choice
from services.transactions.providers.protocols import Declined, OutcomeUnknown, PaymentOrder
from services.transactions.providers.settings import ProviderSettings
from services.transactions.providers.stripe.payments import StripePayments
from tests.support.stand_ins import WEBHOOK_SECRET, find_free_port, run_stand_in
from tests.support.transactions import ADMIN, TransactionsHarness

T = transactions_pb2.Transaction
API_KEY = "sk_test_of_these_tests"
ROUTING_NUMBER = "110000000"
GOOD = "000123456789"
BY_STRIPE = ProviderChoice(all_organizations={"ACH": Carriers(inbound="stripe")})


class Webhooks:
    """What the stand-in sends, with its signature."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, str]] = []
        kept = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept.append((body, self.headers["Stripe-Signature"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def webhooks() -> Iterator[Webhooks]:
    receiver = Webhooks()
    yield receiver
    receiver.server.shutdown()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, webhooks: Webhooks) -> Iterator[str]:
    port = find_free_port()
    environment = {
        "SANDBOX_STRIPE_PORT": str(port),
        "SANDBOX_STRIPE_DATABASE": str(tmp_path_factory.mktemp("stripe") / "stripe.sqlite"),
        "SANDBOX_STRIPE_API_KEY": API_KEY,
        "SANDBOX_STRIPE_WEBHOOK_URL": f"http://127.0.0.1:{webhooks.server.server_port}/",
        "SANDBOX_STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "SANDBOX_STRIPE_SETTLE_MS": "50",
    }
    with run_stand_in("sandbox.stripe", port, environment) as running:
        yield running


@pytest.fixture
async def stripe(url: str) -> AsyncIterator[StripePayments]:
    adapter = StripePayments(API_KEY, url)
    yield adapter
    await adapter.close()


def an_order(number: str = GOOD, **more: Any) -> PaymentOrder:
    reference = new_id("txn")
    order = PaymentOrder(
        key=f"txn:{reference}:1",
        reference=reference,
        party_id="pty_1",
        bank_account_id=new_id("ba"),
        amount=Money(100_00, "USD"),
        is_inbound=True,
        presentment=1,
        routing_number=ROUTING_NUMBER,
        account_number=number,
        account_type="CHECKING",
        account_holder_name="Ada Investor",
        description="ESCROW DEPOSIT",
    )
    return replace(order, **more)


def confirm(url: str, payment_id: str) -> None:
    """The holder says on Stripe's page what was deposited."""
    page = httpx.post(f"{url}/microdeposits/{payment_id}", data={"descriptor_code": "SM11AA"}, trust_env=False)
    assert "Thank you" in page.text


async def becomes(stripe: StripePayments, payment_id: str, status: PaymentStatus) -> Payment:
    for _ in range(200):
        payment = await stripe.get_payment(payment_id)
        assert payment is not None
        if payment.status is status:
            return payment
        await asyncio.sleep(0.02)
    raise AssertionError(f"it is still {payment.status}")


async def test_a_debit_waits_until_its_holder_has_confirmed_the_account_and_settles(stripe, url) -> None:
    order = an_order()
    payment = await stripe.submit(order)
    assert (payment.status, payment.amount, payment.reference) == (PaymentStatus.PENDING, order.amount, order.reference)
    assert await stripe.list_payments(order.reference) == [payment]
    assert (await stripe.submit(order)).payment_id == payment.payment_id, "the same key is the same payment"
    confirm(url, payment.payment_id)
    settled = await becomes(stripe, payment.payment_id, PaymentStatus.SETTLED)
    assert settled.changed_at is not None


async def test_an_account_that_was_confirmed_is_not_confirmed_again(stripe, url) -> None:
    first = an_order()
    confirm(url, (await stripe.submit(first)).payment_id)
    await becomes(stripe, (await stripe.submit(first)).payment_id, PaymentStatus.SETTLED)
    again = await stripe.submit(an_order(bank_account_id=first.bank_account_id))
    await becomes(stripe, again.payment_id, PaymentStatus.SETTLED)
    other = await stripe.submit(an_order("000123456780", bank_account_id=first.bank_account_id))
    await asyncio.sleep(0.2)
    waiting = await stripe.get_payment(other.payment_id)
    assert waiting is not None
    assert waiting.status is PaymentStatus.PENDING, "another number is another account, whatever the metadata say"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("000222222227", "R01"),
        ("000111111113", "R02"),
        ("000111111116", "R03"),
        ("000333333335", "R10"),
        ("000555555559", "R10"),
    ],
)
async def test_what_the_bank_sends_back_bears_its_code_before_it_settles_and_after(stripe, url, number, code) -> None:
    payment = await stripe.submit(an_order(number))
    confirm(url, payment.payment_id)
    assert (await becomes(stripe, payment.payment_id, PaymentStatus.RETURNED)).return_code == code


async def test_an_account_that_cannot_be_confirmed_fails_the_payment_and_no_bank_has_seen_it(stripe) -> None:
    order = an_order("000666666661")
    payment = await stripe.submit(order)
    assert (payment.status, payment.return_code) == (PaymentStatus.FAILED, "")
    assert await stripe.list_payments(order.reference) == []


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (an_order("000777777771"), "DECLINED_BY_PROVIDER"),
        (an_order("12AB"), "INVALID_PAYMENT_DATA"),
        (an_order(routing_number="110000001"), "INVALID_PAYMENT_DATA"),
        (an_order(amount=Money(10**12, "USD")), "INVALID_PAYMENT_DATA"),
        (an_order(is_inbound=False), "PAYMENT_METHOD_NOT_SUPPORTED"),
    ],
    ids=["a limit of Stripe's", "no number", "no routing number", "too much", "a payout"],
)
async def test_a_decline_is_definite_and_leaves_nothing(stripe, order, code) -> None:
    for _ in range(2):
        with pytest.raises(Declined) as refusal:
            await stripe.submit(order)
        assert (refusal.value.code, refusal.value.retryable) == (code, False)
    assert await stripe.list_payments(order.reference) == []


@pytest.mark.parametrize(
    "number", ["000999999990", "000999999992"], ids=["answered 500", "answered with another amount"]
)
async def test_an_answer_that_proves_nothing_leaves_the_outcome_unknown_and_is_paid_once(stripe, number) -> None:
    order = an_order(number)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await stripe.submit(order)
    [payment] = await stripe.list_payments(order.reference)
    assert (payment.amount, payment.status) == (order.amount, PaymentStatus.PENDING)


async def test_another_order_under_the_same_key_is_unknown_and_not_made(stripe) -> None:
    order = an_order()
    await stripe.submit(order)
    with pytest.raises(OutcomeUnknown):
        await stripe.submit(replace(order, amount=Money(1, "USD")))
    assert len(await stripe.list_payments(order.reference)) == 1


async def test_a_key_that_stripe_refuses_and_a_stripe_that_is_away_are_unknown_and_not_failed(url) -> None:
    for adapter in (StripePayments("sk_test_of_others", url), StripePayments(API_KEY, "http://127.0.0.1:9")):
        for call in (adapter.submit(an_order()), adapter.list_payments("txn_1"), adapter.get_payment("pi_1")):
            with pytest.raises(OutcomeUnknown):
                await call
        await adapter.close()


@pytest.mark.parametrize("payment_id", ["pi_nothing", "../customers", "pi_1?x=1", "", "pä"])
async def test_what_is_not_there_and_what_is_no_id_is_no_payment(stripe, payment_id) -> None:
    assert await stripe.get_payment(payment_id) is None


async def test_a_payment_that_others_ordered_of_the_same_account_is_none_of_ours(stripe, url) -> None:
    form = {
        "amount": "1",
        "currency": "usd",
        "confirm": "true",
        "payment_method_types[0]": "us_bank_account",
        "payment_method_data[us_bank_account][routing_number]": ROUTING_NUMBER,
        "payment_method_data[us_bank_account][account_number]": GOOD,
        "mandate_data[customer_acceptance][type]": "offline",
    }
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        made = (await client.post("/v1/payment_intents", data=form)).raise_for_status()
    assert await stripe.get_payment(made.json()["id"]) is None


# --- the service over it ---


@pytest.fixture
async def service(service_database, stripe: StripePayments) -> TransactionsHarness:
    settings = ProviderSettings(stripe_api_key=SecretStr(API_KEY), stripe_webhook_secret=SecretStr(WEBHOOK_SECRET))
    database = await service_database("transactions")
    return TransactionsHarness(database, provider=stripe, choice=BY_STRIPE, settings=settings)


async def deliver(service: TransactionsHarness, received: list[tuple[bytes, str]]) -> None:
    for body, signature in received:
        request = webhooks_pb2.ReceiveStripeWebhookRequest(body=HttpBody(data=body), signature=signature)
        await service.ask(ADMIN, "ReceiveStripeWebhook", request)


async def told_of(webhooks: Webhooks, payment_id: str, kind: str) -> list[tuple[bytes, str]]:
    """Everything that was sent about it, once this kind of event is there."""
    for _ in range(500):
        found = [each for each in list(webhooks.received) if payment_id.encode() in each[0]]
        if any(f'"{kind}"'.encode() in body for body, _ in found):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"no {kind} was sent")


async def test_only_what_the_choice_names_goes_by_another_provider(service) -> None:
    made = await service.deposit()
    assert (await service.get(made.transaction_id)).provider == "stripe"
    assert (await service.payout("inv-002")).provider == "sandbox"


@pytest.mark.parametrize(
    ("chosen", "wrong"),
    [
        (
            {"all_organizations": {"ACH": {"outbound": "stripe"}}},
            "carried by sandbox, ach_file, and not by stripe",
        ),
        ({"all_organizations": {"WIRE": {"inbound": "sandbox"}}}, "WIRE inbound is carried by manual"),
        ({"all_organizations": {"CASH": {"inbound": "sandbox"}}}, "CASH is no payment method"),
        ({"all_organizations": {"ACH": {"inbound": "plaid"}}}, "not by plaid"),
        ({"organizations": {"org-1": {"ACH": {"inbound": "stripe"}}}}, "stripe is not set up"),
        ({"organizations": {"org 1": {}}}, "is no name of an organization"),
        ({"organisations": {}}, "PAYMENT_PROVIDERS_FILE"),
        ({"all_organizations": {"ACH": {"in": "stripe"}}}, "PAYMENT_PROVIDERS_FILE"),
    ],
)
def test_a_choice_that_nobody_can_carry_out_keeps_the_service_from_starting(tmp_path, chosen, wrong) -> None:
    file = tmp_path / "providers.json"
    file.write_text(json.dumps(chosen))
    with pytest.raises(ConfigurationError, match=wrong):
        read_choice(file, ["sandbox", "manual"])


def test_what_no_provider_of_this_process_carries_keeps_the_service_from_starting(tmp_path) -> None:
    file = tmp_path / "providers.json"
    file.write_text(json.dumps({"all_organizations": {"ACH": {"inbound": "stripe"}}}))
    with pytest.raises(ConfigurationError, match="ACH outbound: sandbox is not set up"):
        read_choice(file, ["stripe", "manual"])
    assert read_choice(file, ["stripe", "manual", "sandbox"]).choose("org-1", RAILS["ACH"], is_inbound=True) == "stripe"


async def start(service: TransactionsHarness, suffix: str = "02") -> Any:
    made = await service.deposit(suffix=suffix)
    await service.work()
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.provider) == (T.PENDING_SETTLEMENT, "stripe")
    assert seen.payer_action_url.endswith(f"/microdeposits/{seen.provider_reference}")
    return seen


@pytest.mark.parametrize("order", ["as they came", "the last first, each twice"])
async def test_webhooks_of_stripe_bring_a_contribution_to_where_stripe_has_it_in_any_order(
    service, webhooks, url, order
) -> None:
    started = await start(service)
    confirm(url, started.provider_reference)
    received = await told_of(webhooks, started.provider_reference, "payment_intent.succeeded")
    await deliver(service, received if order == "as they came" else [*received[::-1], *received])
    await service.work()
    seen = await service.get(started.transaction_id)
    assert (seen.status, seen.provider, seen.attempts) == (T.SETTLED, "stripe", 1)
    assert not seen.HasField("payer_action_url")
    applied = (await service.ask(ADMIN, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())).webhooks
    assert {(each.status, each.provider) for each in applied} == {(webhooks_pb2.Webhook.APPLIED, "stripe")}
    assert len(applied) == len(received)
