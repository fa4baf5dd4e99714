"""ACH debits by Stripe, ordered with its own SDK of the stand-in: a process of its own over HTTP."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr
from realco.transactions.v1 import webhooks_pb2

from sandbox.signature import sign
from services.chassis.process.settings import ConfigurationError
from services.chassis.values.money import Money
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.rails import RAILS
from services.transactions.domain.refusals import WebhookSignatureInvalid
from services.transactions.providers.choice import read_choice
from services.transactions.providers.protocols import Declined, OutcomeUnknown
from services.transactions.providers.registry import open_providers
from services.transactions.providers.settings import ProviderSettings
from services.transactions.providers.stripe.keys import check_address
from services.transactions.providers.stripe.payments import StripePayments
from services.transactions.providers.stripe.webhooks import StripeWebhooks
from tests.integration.stripe_desk import (
    API_KEY,
    GOOD,
    ROUTING_NUMBER,
    VAULT,
    T,
    alter,
    becomes,
    confirm,
    deliver,
    read,
    start,
    told_of,
)
from tests.support.payment_orders import an_order
from tests.support.stand_ins import WEBHOOK_SECRET
from tests.support.transactions import ADMIN, TransactionsHarness

pytest_plugins = ("tests.integration.stripe_desk",)


@pytest.fixture
def service(stripe_service: TransactionsHarness) -> TransactionsHarness:
    return stripe_service


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
    first = await stripe.submit(an_order())
    confirm(url, first.payment_id)
    await becomes(stripe, first.payment_id, PaymentStatus.SETTLED)
    again = await stripe.submit(an_order(confirmed_payment_id=first.payment_id))
    assert again.payer_action_url == ""
    await becomes(stripe, again.payment_id, PaymentStatus.SETTLED)
    other = await stripe.submit(an_order("000123456780", confirmed_payment_id=first.payment_id))
    assert other.payer_action_url != "", "another number is another account"


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


async def test_a_savings_account_is_drawn_as_one_and_one_that_is_gone_at_stripe_is_confirmed_anew(
    stripe, url, books
) -> None:
    first = await stripe.submit(an_order(account_type="SAVINGS"))
    method = read(books, first.payment_id)["payment_method"]
    assert read(books, method)["us_bank_account"]["account_type"] == "savings"
    confirm(url, first.payment_id)
    await becomes(stripe, first.payment_id, PaymentStatus.SETTLED)
    alter(books, method, customer=None)
    again = await stripe.submit(an_order(confirmed_payment_id=first.payment_id))
    assert again.payer_action_url != ""


@pytest.mark.parametrize(("holder_type", "theirs"), [("PERSON", "individual"), ("COMPANY", "company")])
async def test_stripe_is_told_whether_the_holder_is_a_company(stripe, books, holder_type, theirs) -> None:
    payment = await stripe.submit(an_order(holder_type=holder_type))
    method = read(books, payment.payment_id)["payment_method"]
    assert read(books, method)["us_bank_account"]["account_holder_type"] == theirs


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
        assert ("provider_code" in refusal.value.metadata) is (code == "DECLINED_BY_PROVIDER")
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
    for adapter in (
        StripePayments("sk_test_of_others", url, VAULT),
        StripePayments(API_KEY, "http://127.0.0.1:9", VAULT),
    ):
        for call in (adapter.submit(an_order()), adapter.list_payments("txn_1"), adapter.get_payment("pi_1")):
            with pytest.raises(OutcomeUnknown):
                await call
        await adapter.close()


@pytest.mark.parametrize("payment_id", ["pi_nothing", "../customers", "pi_1?x=1", "", "pä"])
async def test_what_is_not_there_and_what_is_no_id_is_no_payment(stripe, payment_id) -> None:
    assert await stripe.get_payment(payment_id) is None


async def test_a_payment_that_others_ordered_of_the_same_account_is_none_of_ours(stripe, url) -> None:
    method = {"type": "us_bank_account", "us_bank_account[routing_number]": ROUTING_NUMBER}
    form = {
        "amount": "1",
        "currency": "usd",
        "confirm": "true",
        "payment_method_types[0]": "us_bank_account",
        "mandate_data[customer_acceptance][type]": "offline",
    }
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        account = method | {"us_bank_account[account_number]": GOOD}
        used = (await client.post("/v1/payment_methods", data=account)).raise_for_status().json()["id"]
        form["payment_method"] = used
        made = (await client.post("/v1/payment_intents", data=form)).raise_for_status()
    found = await stripe.get_payment(made.json()["id"])
    assert (found.reference, found.presentment) == ("", 0)


# --- the service over it ---


async def test_only_what_the_choice_names_goes_by_another_provider(service) -> None:
    made = await service.deposit()
    assert (await service.get(made.transaction_id)).provider == "stripe"
    assert (await service.payout("inv-002")).provider == "sandbox"


@pytest.mark.parametrize(
    ("chosen", "wrong"),
    [
        (
            {"all_organizations": {"ACH": {"outbound": "stripe"}}},
            "carried by sandbox, plaid, ach_file, and not by stripe",
        ),
        ({"all_organizations": {"WIRE": {"inbound": "sandbox"}}}, "WIRE inbound is carried by manual"),
        ({"all_organizations": {"CASH": {"inbound": "sandbox"}}}, "CASH is no payment method"),
        ({"all_organizations": {"ACH": {"inbound": "plaid"}}}, "plaid is not set up"),
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


def test_a_choice_that_names_something_twice_keeps_the_service_from_starting(tmp_path) -> None:
    file = tmp_path / "providers.json"
    file.write_text('{"all_organizations": {"ACH": {"inbound": "sandbox"}}, "all_organizations": {}}')
    with pytest.raises(ConfigurationError, match="all_organizations stands there twice"):
        read_choice(file, ["sandbox", "manual"])


def test_what_no_provider_of_this_process_carries_keeps_the_service_from_starting(tmp_path) -> None:
    file = tmp_path / "providers.json"
    file.write_text(json.dumps({"all_organizations": {"ACH": {"inbound": "stripe"}}}))
    with pytest.raises(ConfigurationError, match="ACH outbound: sandbox is not set up"):
        read_choice(file, ["stripe", "manual"])
    assert read_choice(file, ["stripe", "manual", "sandbox"]).choose("org-1", RAILS["ACH"], is_inbound=True) == "stripe"


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


@pytest.mark.parametrize(
    ("key", "address", "is_taken"),
    [
        ("sk_test_1", "", True),
        ("rk_live_1", "", True),
        ("sk_test_1", "http://127.0.0.1:8480", True),
        ("sk_test_1", "https://stand-in.example", True),
        ("sk_test_1", "http://stand-in.example", False),
        ("rk_live_1", "https://stand-in.example", False),
    ],
)
def test_a_key_and_account_numbers_are_sent_to_stripe_or_in_tests_to_a_stand_in(key, address, is_taken) -> None:
    if is_taken:
        check_address(key, address)
        return
    with pytest.raises(ConfigurationError, match="STRIPE_API_URL"):
        check_address(key, address)


@pytest.mark.parametrize(
    ("key", "chosen", "starts"),
    [
        ("rk_test_1", {"ACH": {"inbound": "stripe"}}, True),
        ("rk_live_1", {"ACH": {"inbound": "stripe"}}, False),  # the simulator would pay out
        ("rk_live_1", {}, False),
    ],
)
async def test_real_money_does_not_come_in_beside_a_simulator_that_pays_out(tmp_path, key, chosen, starts) -> None:
    file = tmp_path / "providers.json"
    file.write_text(json.dumps({"all_organizations": chosen}))
    settings = ProviderSettings(
        sandbox_bank_url="http://127.0.0.1:9",
        sandbox_bank_webhook_secret=SecretStr(WEBHOOK_SECRET),
        stripe_api_key=SecretStr(key),
        stripe_webhook_secret=SecretStr(WEBHOOK_SECRET),
        payment_providers_file=file,
    )
    if starts:
        async with open_providers(settings, None, None, VAULT) as providers:
            assert set(providers.orders) == {"sandbox", "stripe", "manual"}
        return
    with pytest.raises(ConfigurationError, match="the simulator pays nothing"):
        async with open_providers(settings, None, None, VAULT):
            pass


@pytest.mark.parametrize("livemode", [True, None, 0, "false"])
async def test_a_webhook_of_the_other_mode_is_refused_however_well_it_is_signed(livemode) -> None:
    event = {
        "id": "evt_1",
        "type": "payment_intent.succeeded",
        "data": {"object": {"id": "pi_1"}},
        "livemode": livemode,
    }
    body = json.dumps(event).encode()
    reader = StripeWebhooks(WEBHOOK_SECRET, API_KEY)
    with pytest.raises(WebhookSignatureInvalid):
        await reader.read_webhook(body, sign(WEBHOOK_SECRET, body, int(time.time())))
    good = json.dumps(event | {"livemode": False}).encode()
    assert (await reader.read_webhook(good, sign(WEBHOOK_SECRET, good, int(time.time())))).payment_id == "pi_1"


@pytest.mark.parametrize("found", [[], None, "x", True])
async def test_a_webhook_about_no_object_is_refused(found) -> None:
    event = {"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": found}, "livemode": False}
    body = json.dumps(event).encode()
    with pytest.raises(WebhookSignatureInvalid):
        await StripeWebhooks(WEBHOOK_SECRET, API_KEY).read_webhook(body, sign(WEBHOOK_SECRET, body, int(time.time())))
