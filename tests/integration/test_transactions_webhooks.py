"""Webhooks: proved, stored once, applied by what the provider says now, in whatever order they come."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import asyncpg
import pytest
import sqlalchemy as sa
from google.api.httpbody_pb2 import HttpBody
from joserfc.jwk import ECKey
from pydantic import SecretStr
from realco.transactions.v1 import transactions_pb2, webhooks_pb2
from realco.transactions.v1.webhooks_pb2 import Webhook

from services.chassis.calls.auth import Principal
from services.chassis.data.seals import NotSealed
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from services.transactions.jobs.apply_webhooks import apply_webhooks
from services.transactions.jobs.forget_webhook_bodies import forget_webhook_bodies
from services.transactions.jobs.start_queued import start_queued
from services.transactions.jobs.submit_payments import submit_payments
from services.transactions.providers.plaid.webhooks import PlaidWebhooks
from services.transactions.providers.settings import ProviderSettings
from tests.e2e.providers import STRIPE_SECRET, Plaid, event, signed
from tests.support.chassis import as_superuser
from tests.support.databases import open_database
from tests.support.transactions import ADMIN, IMPORT, TransactionsHarness

T = transactions_pb2.Transaction
PLAID_BODY = event("plaid", "item-1")


@pytest.fixture
async def urls(service_urls) -> SimpleNamespace:
    made: SimpleNamespace = await service_urls("transactions")
    return made


@pytest.fixture
def service(urls: SimpleNamespace) -> TransactionsHarness:
    settings = ProviderSettings(stripe_webhook_secret=SecretStr(STRIPE_SECRET))
    return TransactionsHarness(open_database(urls, "transactions"), settings=settings)


async def listed(service: TransactionsHarness, principal: Principal = ADMIN) -> list[Webhook]:
    answer = await service.ask(principal, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())
    return list(answer.webhooks)


async def test_a_webhook_is_stored_once_and_applied_to_its_transaction(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.work()
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    first, again = await service.hook("evt_1", payment_id), await service.hook("evt_1", payment_id)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.webhook_id == again.webhook_id
    await service.work()
    assert (await service.get(made.transaction_id)).status == T.SETTLED
    [webhook] = await listed(service)
    assert (webhook.status, webhook.transaction_id) == (Webhook.APPLIED, made.transaction_id)
    assert await listed(service, Principal("admin-9", "admin", "org-2")) == []


async def test_webhooks_about_one_payment_that_wait_together_are_applied_by_one_look(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await service.deposit()
    await service.work()
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    asked, get_payment = [], service.bank.get_payment

    async def count(payment_id: str):
        asked.append(payment_id)
        return await get_payment(payment_id)

    monkeypatch.setattr(service.bank, "get_payment", count)
    for number in range(3):
        await service.hook(f"evt_{number}", payment_id)
    assert (await service.run(apply_webhooks), asked) == (3, [payment_id])
    assert (await service.path(made.transaction_id))[-2:] == ["PENDING_SETTLEMENT", "SETTLED"]
    applied = await listed(service)
    assert [webhook.status for webhook in applied] == [Webhook.APPLIED] * 3
    for webhook in applied:
        assert await service.events(webhook.webhook_id) == ["WebhookUpdated"]
    assert await service.run(apply_webhooks) == 0


async def test_a_webhook_that_overtakes_the_answer_to_the_order_waits_for_it(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.run(start_queued)
    service.bank.after_effect.append(RuntimeError("the answer is still on its way"))
    await service.run(submit_payments)
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    await service.hook("evt_1", payment_id)
    await service.run(apply_webhooks)
    assert (await service.get(made.transaction_id)).status == T.PROCESSING
    [waiting] = await listed(service)
    assert waiting.status == Webhook.RECEIVED
    await service.hurry()
    await service.work()
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.SETTLED
    [applied] = await listed(service)
    assert (applied.status, applied.webhook_id) == (Webhook.APPLIED, waiting.webhook_id)
    assert await service.events(applied.webhook_id) == ["WebhookUpdated"] * 2


async def test_a_lost_webhook_is_healed_by_looking(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.work()
    service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    await service.work()
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.SETTLED


async def test_late_news_of_an_earlier_presentment_changes_nothing(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.work()
    first = service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R01")
    await service.work(hurried=True)
    service.clock.set((await service.get(made.transaction_id)).next_attempt_time.ToDatetime().astimezone())
    await service.work()
    await service.hook("evt_late", first)
    await service.work()
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.presentments) == (T.PENDING_SETTLEMENT, 2)
    assert seen.provider_reference != first


async def test_money_that_we_called_failed_is_shown_to_a_person(service: TransactionsHarness) -> None:
    made = await service.payout()
    await service.work()
    service.bank.report(made.transaction_id, PaymentStatus.FAILED, "R03")
    await service.work(hurried=True)
    await service.hook("evt_1", service.bank.report(made.transaction_id, PaymentStatus.SETTLED))
    await service.work()
    [webhook] = await listed(service)
    assert (webhook.status, webhook.failure.code) == (Webhook.FAILED, "PAYMENT_NOT_OURS")
    assert webhook.failure.message == "the provider says settled of a transaction that is FAILED"
    assert (await service.get(made.transaction_id)).status == T.FAILED


async def test_a_second_payment_under_our_reference_is_shown_to_a_person(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.work()
    [ordered] = service.bank.payments.values()
    service.bank.payments["pay_twice"] = replace(ordered, payment_id="pay_twice", status=PaymentStatus.SETTLED)
    await service.hook("evt_1", "pay_twice")
    await service.work()
    [webhook] = await listed(service)
    assert (webhook.status, webhook.transaction_id) == (Webhook.FAILED, made.transaction_id)
    assert "none of its attempts" in webhook.failure.message
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_what_was_declined_when_it_was_ordered_is_nothing_for_a_person(service: TransactionsHarness) -> None:
    """A provider may keep and tell what it declined: no money moves by it, and no attempt has its id."""
    made = await service.deposit()
    await service.work()
    [ordered] = service.bank.payments.values()
    service.bank.payments["pay_declined"] = replace(ordered, payment_id="pay_declined", status=PaymentStatus.FAILED)
    await service.hook("evt_1", "pay_declined")
    await service.work()
    assert [(each.status, each.transaction_id) for each in await listed(service)] == [
        (Webhook.APPLIED, made.transaction_id)
    ]
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_what_a_provider_wrote_is_forgotten_after_90_days_and_the_webhook_is_not(
    service: TransactionsHarness,
) -> None:
    made = await service.deposit()
    await service.work()
    await service.hook("evt_1", service.bank.report(made.transaction_id, PaymentStatus.SETTLED))

    async def forget_after(days: int) -> int:
        service.clock.advance(timedelta(days=days))
        return await service.run(forget_webhook_bodies)

    await service.run(apply_webhooks)
    assert [await forget_after(days) for days in (89, 2, 1)] == [0, 1, 0]
    [webhook] = await listed(service)
    assert (webhook.status, webhook.transaction_id) == (Webhook.APPLIED, made.transaction_id)
    await service.ask(
        IMPORT,
        "ReplayWebhook",
        webhooks_pb2.ReplayWebhookRequest(idempotency_key=new_id("key"), webhook_id=webhook.webhook_id),
    )
    await service.run(apply_webhooks)
    assert [webhook.status for webhook in await listed(service)] == [Webhook.APPLIED]


async def test_a_webhook_about_nothing_of_ours_is_kept_and_ignored(service: TransactionsHarness) -> None:
    await service.hook("evt_1", "pay_of_somebody_else")
    await service.work()
    async with service.database.begin_for_all() as tx:
        row = (await tx.execute(sa.text("SELECT ignored_because, due_at FROM received_webhooks"))).one()
        assert await tx.scalar(sa.text("SELECT count(*) FROM webhooks")) == 0
    assert tuple(row) == ("the provider has no such payment", None)


async def test_a_replay_repeats_nothing_that_was_done(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.work()
    await service.hook("evt_1", service.bank.report(made.transaction_id, PaymentStatus.SETTLED))
    await service.work()
    [webhook] = await listed(service)
    request = webhooks_pb2.ReplayWebhookRequest(idempotency_key=new_id("key"), webhook_id=webhook.webhook_id)
    assert (await service.ask(IMPORT, "ReplayWebhook", request)).webhook.status == Webhook.RECEIVED
    with pytest.raises(
        asyncpg.PostgresError, match="is applied before"
    ):  # a login does not learn the proof from the first time
        async with service.database.begin_for_all() as tx:
            await tx.execute(sa.text("UPDATE received_webhooks SET due_at = NULL, proof = coalesce(proof, 'x')"))
    await service.work()
    [replayed] = await listed(service)
    assert replayed.status == Webhook.APPLIED
    assert (await service.events(made.transaction_id)).count("TransactionSettled") == 1
    with pytest.raises(DomainError) as refusal:
        await service.ask(Principal("admin-9", "admin", "org-2"), "ReplayWebhook", request)
    assert refusal.value.reason == "WEBHOOK_NOT_FOUND"
    nobodys = webhooks_pb2.ListWebhooksRequest(transaction_id=["txn_" + "0" * 26])
    assert list((await service.ask(ADMIN, "ListWebhooks", nobodys)).webhooks) == []


@pytest.mark.parametrize(
    "attack",
    [
        (
            "INSERT INTO webhooks (org_id, webhook_id, provider, provider_event_id, event_type, status, transaction_id,"
            " created_at) SELECT 'org-1', webhook_id, provider, provider_event_id, event_type, 'RECEIVED', :id, now()"
            " FROM received_webhooks; UPDATE webhooks SET status = 'APPLIED'"
        ),
        "UPDATE received_webhooks SET ignored_because = 'not a payment of ours'",
    ],
    ids=["said to be applied", "said to be ignored"],
)
async def test_a_webhook_is_applied_whatever_a_login_writes_beside_it(
    service: TransactionsHarness, attack: str
) -> None:
    made = await service.deposit()
    await service.work()
    await service.hook("evt_1", service.bank.report(made.transaction_id, PaymentStatus.SETTLED))
    async with service.database.begin_for_all() as tx:
        for statement in attack.replace(":id", f"'{made.transaction_id}'").split("; "):
            await tx.execute(sa.text(statement))
    await service.work()
    assert (await service.get(made.transaction_id)).status == T.SETTLED


async def test_a_webhook_that_somebody_else_says_we_have_is_refused_and_told(service: TransactionsHarness) -> None:
    """So its provider sends it again; the payment is looked up all the same."""
    made = await service.deposit()
    await service.work()
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    await service.hook("evt_1", payment_id)
    forged = (
        "INSERT INTO received_webhooks (webhook_id, provider, provider_event_id, event_type, provider_reference,"
        " ignored_because, created_at, proof_digest) SELECT 'whk_' || :event, provider, :event, event_type, NULL,"
        " 'events of this type are only stored', created_at, proof_digest FROM received_webhooks LIMIT 1"
    )
    async with service.database.begin_for_all() as tx:
        await tx.execute(sa.text(forged), {"event": "evt_2"})
    with pytest.raises(NotSealed):
        await service.hook("evt_2", payment_id)


async def test_a_webhook_waits_while_the_payment_it_is_about_is_not_as_the_service_wrote_it(
    service: TransactionsHarness, urls: SimpleNamespace
) -> None:
    made = await service.deposit()
    await service.work()
    await service.hook("evt_1", service.bank.report(made.transaction_id, PaymentStatus.SETTLED))
    for is_altered in (True, False):
        if is_altered:
            async with service.database.begin_for_all() as tx:
                await tx.execute(sa.text("UPDATE provider_payments SET sent_at = sent_at + interval '1 second'"))
        else:  # an operator puts it right
            async with as_superuser(urls) as admin:
                await admin.execute("SET session_replication_role = replica")
                await admin.execute("UPDATE provider_payments SET sent_at = sent_at - interval '1 second'")
        await service.hurry()
        await service.work()
        async with service.database.begin_for_all() as tx:
            is_due = await tx.scalar(sa.text("SELECT due_at IS NOT NULL FROM received_webhooks"))
        assert is_due is is_altered
    assert (await service.get(made.transaction_id)).status == T.SETTLED


async def test_a_genuine_stripe_event_of_any_type_is_stored_once(service: TransactionsHarness) -> None:
    body = event("stripe", "evt_1")
    request = webhooks_pb2.ReceiveStripeWebhookRequest(body=HttpBody(data=body), signature=signed(STRIPE_SECRET, body))
    first = await service.ask(ADMIN, "ReceiveStripeWebhook", request)
    request.signature = signed(STRIPE_SECRET, body, age_seconds=10)  # sent again, signed anew
    again = await service.ask(ADMIN, "ReceiveStripeWebhook", request)
    assert (first.replayed, again.replayed, again.webhook_id) == (False, True, first.webhook_id)


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


async def test_a_genuine_plaid_webhook_is_stored_once(service: TransactionsHarness, plaid: Plaid) -> None:
    service = TransactionsHarness(service.database, settings=ProviderSettings(plaid_base_url=plaid.url))
    verification = plaid.verification(PLAID_BODY)
    request = webhooks_pb2.ReceivePlaidWebhookRequest(body=HttpBody(data=PLAID_BODY), verification=verification)
    first = await service.ask(ADMIN, "ReceivePlaidWebhook", request)
    again = await service.ask(ADMIN, "ReceivePlaidWebhook", request)
    assert (first.replayed, again.replayed, first.webhook_id) == (False, True, again.webhook_id)


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


async def test_a_body_of_a_megabyte_is_refused(service: TransactionsHarness) -> None:
    request = webhooks_pb2.ReceiveStripeWebhookRequest(body=HttpBody(data=b" " * 1_000_000))
    with pytest.raises(DomainError) as refusal:
        await service.ask(ADMIN, "ReceiveStripeWebhook", request)
    assert list(refusal.value.fields) == ["body"]
