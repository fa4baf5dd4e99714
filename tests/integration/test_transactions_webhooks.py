"""Webhooks: proved, stored once, applied by what the provider says now, in whatever order they come."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from google.api.httpbody_pb2 import HttpBody
from joserfc.jwk import ECKey
from realco.transactions.v1 import transactions_pb2, webhooks_pb2
from realco.transactions.v1.webhooks_pb2 import Webhook

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.transactions.domain.payments import PaymentStatus
from services.transactions.providers.plaid import PlaidWebhooks
from services.transactions.providers.stripe import StripeWebhooks
from tests.e2e.providers import STRIPE_SECRET, Plaid, event, signed
from tests.support.transactions import ADMIN, House

T = transactions_pb2.Transaction
PLAID_BODY = event("plaid", "item-1")


@pytest.fixture
async def house(service_database) -> House:
    return House(await service_database("transactions"), stripe=StripeWebhooks(STRIPE_SECRET))


async def hook(house: House, event_id: str, payment_id: str, kind: str = "payment.changed"):
    body = HttpBody(data=f"{event_id} {kind} {payment_id}".encode())
    return await house.ask(ADMIN, "ReceiveSandboxWebhook", webhooks_pb2.ReceiveSandboxWebhookRequest(body=body))


async def listed(house: House, principal: Principal = ADMIN) -> list[Webhook]:
    answer = await house.ask(principal, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())
    return list(answer.webhooks)


async def test_a_webhook_is_stored_once_and_applied_to_its_transaction(house: House) -> None:
    made = await house.deposit()
    await house.work()
    payment_id = house.bank.say(made.transaction_id, PaymentStatus.SETTLED)
    first, again = await hook(house, "evt_1", payment_id), await hook(house, "evt_1", payment_id)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.webhook_id == again.webhook_id
    await house.work()
    assert (await house.get(made.transaction_id)).status == T.SETTLED
    [webhook] = await listed(house)
    assert (webhook.status, webhook.transaction_id) == (Webhook.APPLIED, made.transaction_id)
    assert await listed(house, Principal("admin-9", "admin", "org-2")) == []


LIFE = [PaymentStatus.PENDING, PaymentStatus.SETTLED, PaymentStatus.RETURNED]


async def test_in_any_order_and_twice_each_the_end_is_the_same(house: House) -> None:
    for number, order in enumerate(itertools.permutations(range(3))):
        made = await house.deposit(f"inv-{number}")
        await house.work()
        for status in LIFE:  # all of it has happened before the first webhook arrives
            payment_id = house.bank.say(made.transaction_id, status, "R02" if status is PaymentStatus.RETURNED else "")
        for place in (*order, *order):
            await hook(house, f"evt_{number}_{place}", payment_id)
            await house.work()
        ended = await house.get(made.transaction_id)
        assert (ended.status, ended.failure.code) == (T.RETURNED, "R02")
        assert (await house.path(made.transaction_id))[-2:] == ["PENDING_SETTLEMENT", "RETURNED"]
    assert {webhook.status for webhook in await listed(house)} == {Webhook.APPLIED}


async def test_a_webhook_that_overtakes_the_answer_to_the_order_waits_for_it(house: House) -> None:
    made = await house.deposit()
    await house.jobs.start()
    house.bank.after_effect.append(RuntimeError("the answer is still on its way"))
    await house.provider_jobs.submit()
    payment_id = house.bank.say(made.transaction_id, PaymentStatus.SETTLED)
    await hook(house, "evt_1", payment_id)
    await house.provider_jobs.apply_webhooks()
    assert (await house.get(made.transaction_id)).status == T.PROCESSING
    await house.hurry()
    await house.work()
    await house.work(hurried=True)
    assert (await house.get(made.transaction_id)).status == T.SETTLED


async def test_a_lost_webhook_is_healed_by_looking(house: House) -> None:
    made = await house.deposit()
    await house.work()
    house.bank.say(made.transaction_id, PaymentStatus.SETTLED)
    await house.work()
    assert (await house.get(made.transaction_id)).status == T.PENDING_SETTLEMENT
    await house.work(hurried=True)
    assert (await house.get(made.transaction_id)).status == T.SETTLED


async def test_a_late_return_whose_webhook_is_lost_is_found_until_the_payment_is_final(house: House) -> None:
    debit, payout, kept = await house.deposit(), await house.payout("inv-002"), await house.payout("inv-003")
    await house.work()
    for made in (debit, payout, kept):
        house.bank.say(made.transaction_id, PaymentStatus.SETTLED)
    await house.work(hurried=True)
    house.clock.advance(timedelta(days=1))
    await house.hurry()
    assert await house.provider_jobs.watch() == 3  # nothing came back; all are looked at again
    assert (await house.get(debit.transaction_id)).status == T.SETTLED

    house.bank.say(payout.transaction_id, PaymentStatus.RETURNED, "R02", at=house.clock.now())
    house.clock.advance(timedelta(days=29))
    await house.work()  # the debit completes
    house.bank.say(debit.transaction_id, PaymentStatus.RETURNED, "R10", at=house.clock.now())
    await house.hurry()
    assert await house.provider_jobs.watch() == 3
    for made, code in ((debit, "R10"), (payout, "R02")):
        seen = await house.get(made.transaction_id)
        assert (seen.status, seen.failure.code) == (T.RETURNED, code)
    assert (await house.get(kept.transaction_id)).finality == T.FINAL
    await house.hurry()
    assert await house.provider_jobs.watch() == 0  # final, or come back: nobody looks any more


async def test_late_news_of_an_earlier_presentment_changes_nothing(house: House) -> None:
    made = await house.deposit()
    await house.work()
    first = house.bank.say(made.transaction_id, PaymentStatus.RETURNED, "R01")
    await house.work(hurried=True)
    house.clock.set((await house.get(made.transaction_id)).next_attempt_time.ToDatetime().astimezone())
    await house.work()
    await hook(house, "evt_late", first)
    await house.work()
    seen = await house.get(made.transaction_id)
    assert (seen.status, seen.presentments) == (T.PENDING_SETTLEMENT, 2)
    assert seen.provider_reference != first


async def test_money_that_we_called_failed_is_shown_to_a_person(house: House) -> None:
    made = await house.payout()
    await house.work()
    house.bank.say(made.transaction_id, PaymentStatus.FAILED, "R03")
    await house.work(hurried=True)
    await hook(house, "evt_1", house.bank.say(made.transaction_id, PaymentStatus.SETTLED))
    await house.work()
    [webhook] = await listed(house)
    assert (webhook.status, webhook.failure) == (
        Webhook.FAILED,
        "the provider says settled of a transaction that is FAILED",
    )
    assert (await house.get(made.transaction_id)).status == T.FAILED


async def test_a_second_payment_under_our_reference_is_shown_to_a_person(house: House) -> None:
    made = await house.deposit()
    await house.work()
    [ordered] = house.bank.payments.values()
    house.bank.payments["pay_twice"] = replace(ordered, payment_id="pay_twice", status=PaymentStatus.SETTLED)
    await hook(house, "evt_1", "pay_twice")
    await house.work()
    [webhook] = await listed(house)
    assert (webhook.status, webhook.transaction_id) == (Webhook.FAILED, made.transaction_id)
    assert "none of its attempts" in webhook.failure
    assert (await house.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_a_webhook_about_nothing_of_ours_is_kept_and_ignored(house: House) -> None:
    await hook(house, "evt_1", "pay_of_somebody_else")
    await house.work()
    async with house.database.begin("*") as tx:
        row = (await tx.execute(sa.text("SELECT status, failure, org_id FROM webhooks"))).one()
    assert tuple(row) == ("IGNORED", "the provider has no such payment", "")


async def test_a_replay_repeats_nothing_that_was_done(house: House) -> None:
    made = await house.deposit()
    await house.work()
    await hook(house, "evt_1", house.bank.say(made.transaction_id, PaymentStatus.SETTLED))
    await house.work()
    [webhook] = await listed(house)
    request = webhooks_pb2.ReplayWebhookRequest(webhook_id=webhook.webhook_id)
    assert (await house.ask(ADMIN, "ReplayWebhook", request)).status == Webhook.RECEIVED
    await house.work()
    [replayed] = await listed(house)
    assert replayed.status == Webhook.APPLIED
    assert (await house.events(made.transaction_id)).count("TransactionSettled") == 1
    with pytest.raises(DomainError) as refusal:
        await house.ask(Principal("admin-9", "admin", "org-2"), "ReplayWebhook", request)
    assert refusal.value.reason == "WEBHOOK_NOT_FOUND"


async def test_a_genuine_stripe_event_of_any_type_is_stored_once(house: House) -> None:
    body = event("stripe", "evt_1")
    request = webhooks_pb2.ReceiveStripeWebhookRequest(body=HttpBody(data=body), signature=signed(STRIPE_SECRET, body))
    first = await house.ask(ADMIN, "ReceiveStripeWebhook", request)
    request.signature = signed(STRIPE_SECRET, body, age_seconds=10)  # sent again, signed anew
    again = await house.ask(ADMIN, "ReceiveStripeWebhook", request)
    assert (first.duplicate, again.duplicate, again.webhook_id) == (False, True, first.webhook_id)


@pytest.fixture(scope="module")
def plaid():
    with Plaid().serving() as serving:
        yield serving


def _plaid_cases() -> list:
    """name, the body sent, how its JWT was made, whether it is genuine."""
    changed = json.dumps(json.loads(PLAID_BODY)).encode().replace(b": ", b":  ")
    return [
        pytest.param(PLAID_BODY, lambda p: p.verification(PLAID_BODY), True, id="good"),
        pytest.param(PLAID_BODY, lambda p: p.verification(PLAID_BODY, age_seconds=290), True, id="four minutes"),
        pytest.param(PLAID_BODY, lambda p: p.verification(PLAID_BODY, age_seconds=301), False, id="old"),
        pytest.param(PLAID_BODY, lambda p: p.verification(PLAID_BODY, age_seconds=-120), False, id="future"),
        pytest.param(PLAID_BODY, lambda p: p.verification(PLAID_BODY, key=_other_key()), False, id="another key"),
        pytest.param(PLAID_BODY, lambda p: p.verification(PLAID_BODY, header={"kid": "x"}), False, id="unknown kid"),
        pytest.param(changed, lambda p: p.verification(PLAID_BODY), False, id="other white space"),
        pytest.param(PLAID_BODY, lambda p: _unsigned(p), False, id="alg none"),
        pytest.param(PLAID_BODY, lambda p: "", False, id="missing"),
        pytest.param(PLAID_BODY, lambda p: "a.b.c", False, id="junk"),
        pytest.param(PLAID_BODY, lambda p: p.verification(PLAID_BODY)[:-4] + "AAAA", False, id="broken"),
        pytest.param(PLAID_BODY, lambda p: _deep(), False, id="deep"),
    ]


def _other_key() -> ECKey:
    return ECKey.generate_key("P-256", private=True)


def _deep() -> str:
    return base64.urlsafe_b64encode(b"[" * 6000).decode()


def _unsigned(plaid: Plaid) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"plaid-key-1"}').rstrip(b"=").decode()
    return f"{head}.{plaid.verification(PLAID_BODY).split('.')[1]}."


@pytest.mark.parametrize(("body", "token", "genuine"), _plaid_cases())
async def test_only_a_genuine_plaid_webhook_is_believed(plaid: Plaid, body: bytes, token, genuine: bool) -> None:
    reader = PlaidWebhooks(plaid.url, "client", "secret")
    if genuine:
        assert (await reader.read_webhook(body, token(plaid))).event_type == "ITEM.ERROR"
    else:
        with pytest.raises(DomainError) as refusal:
            await reader.read_webhook(body, token(plaid))
        assert (refusal.value.reason, refusal.value.metadata) == ("WEBHOOK_SIGNATURE_INVALID", {})


async def test_a_genuine_plaid_webhook_is_stored_once(house: House, plaid: Plaid) -> None:
    house = House(house.database, plaid=PlaidWebhooks(plaid.url))
    verification = plaid.verification(PLAID_BODY)
    request = webhooks_pb2.ReceivePlaidWebhookRequest(body=HttpBody(data=PLAID_BODY), verification=verification)
    first = await house.ask(ADMIN, "ReceivePlaidWebhook", request)
    again = await house.ask(ADMIN, "ReceivePlaidWebhook", request)
    assert (first.duplicate, again.duplicate, first.webhook_id) == (False, True, again.webhook_id)


async def test_plaid_is_asked_for_a_key_once_and_an_unknown_key_is_remembered(plaid: Plaid) -> None:
    reader = PlaidWebhooks(plaid.url)
    for _ in range(5):
        await reader.read_webhook(PLAID_BODY, plaid.verification(PLAID_BODY))
        with pytest.raises(DomainError):
            await reader.read_webhook(PLAID_BODY, plaid.verification(PLAID_BODY, header={"kid": "flood"}))
    assert len(reader._fetches) == 2


@pytest.mark.parametrize(("url", "reason"), [
    ("", "WEBHOOK_SIGNATURE_INVALID"),  # Plaid is not set up
    ("http://127.0.0.1:9", "UNAVAILABLE"),  # Plaid's key endpoint is down: Plaid sends it again
])  # fmt: skip
async def test_without_plaids_key_nothing_is_believed(plaid: Plaid, url: str, reason: str) -> None:
    with pytest.raises(DomainError) as refusal:
        await PlaidWebhooks(url).read_webhook(PLAID_BODY, plaid.verification(PLAID_BODY))
    assert refusal.value.reason == reason


async def test_a_body_of_a_megabyte_is_refused(house: House) -> None:
    request = webhooks_pb2.ReceiveStripeWebhookRequest(body=HttpBody(data=b" " * 1_000_000))
    with pytest.raises(DomainError) as refusal:
        await house.ask(ADMIN, "ReceiveStripeWebhook", request)
    assert list(refusal.value.fields) == ["body"]
