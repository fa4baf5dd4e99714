"""What no webhook of Stripe's told is read from its list of events: in order, each once, after the last one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sqlite3
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import webhooks_pb2
from structlog.testing import capture_logs

from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.transaction import FINAL
from services.transactions.jobs.read_provider_events import read_provider_events
from services.transactions.providers.stripe.client import StripeApi
from services.transactions.providers.stripe.events import StripeEvents
from services.transactions.store.feed_cursors import Cursor, read_cursor
from tests.integration.stripe_desk import API_KEY, T, alter, becomes, confirm, deliver, read, start, told_of
from tests.integration.test_transactions_stripe_key import count_alarms
from tests.support.stand_ins import WEBHOOK_SECRET
from tests.support.transactions import ADMIN, TransactionsHarness

pytest_plugins = ("tests.integration.stripe_desk",)

READING = import_module("services.transactions.jobs.read_provider_events")


@pytest.fixture
def service(stripe_service: TransactionsHarness) -> TransactionsHarness:
    return stripe_service


async def list_hooks(service) -> list:
    return list((await service.ask(ADMIN, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())).webhooks)


def tell(books: Path, kind: str, found: dict) -> str:
    """Stripe keeps an event that its webhook never told."""
    event = {"id": f"evt_{found['id']}_{kind}", "object": "event", "type": kind, "livemode": False}
    body = json.dumps(event | {"data": {"object": found}})
    with sqlite3.connect(books, timeout=5) as connection:
        connection.execute(
            "INSERT INTO events (id, about, type, body, deliveries_left, next_attempt_ms) VALUES (?, ?, ?, ?, 0, 0)",
            (event["id"], found["id"], kind, body),
        )
    return event["id"]


async def begin(service, books) -> None:
    """What was before the first look is passed over: what is under way is looked up anyway."""
    tell(books, "payment_intent.canceled", {"id": f"pi_before_{time.time_ns()}"})
    assert await service.run(read_provider_events) == 0


async def settle_without_webhooks(service, stripe, url):
    started = await start(service)
    confirm(url, started.provider_reference)
    await becomes(stripe, started.provider_reference, PaymentStatus.SETTLED)
    await service.run(read_provider_events)
    await service.work()
    return await service.get(started.transaction_id)


async def test_what_no_webhook_told_is_read_and_applied_once(service, stripe, url, books) -> None:
    await begin(service, books)
    settled = await settle_without_webhooks(service, stripe, url)
    assert settled.status == T.SETTLED
    assert [each.event_type for each in await list_hooks(service)] == ["payment_intent.succeeded"]
    assert await service.run(read_provider_events) == 0


async def test_an_event_that_came_as_a_webhook_too_is_stored_once(service, stripe, url, webhooks, books) -> None:
    await begin(service, books)
    settled = await settle_without_webhooks(service, stripe, url)
    await deliver(service, await told_of(webhooks, settled.provider_reference, "payment_intent.succeeded"))
    await service.work()
    kinds = [each.event_type for each in await list_hooks(service)]
    assert kinds.count("payment_intent.succeeded") == 1


async def test_what_is_paid_back_at_stripe_after_it_was_final_is_told_though_no_webhook_came(
    service, stripe, url, books
) -> None:
    await begin(service, books)
    settled = await settle_without_webhooks(service, stripe, url)
    await become_final(service, settled)
    before, charge_id = count_alarms(), read(books, settled.provider_reference)["latest_charge"]
    alter(books, charge_id, amount_refunded=100_00, refunded=True)
    tell(books, "charge.refunded", read(books, charge_id))
    await service.work()
    assert count_alarms() > before


async def become_final(service, settled) -> None:
    service.clock.set(settled.final_time.ToDatetime().astimezone(service.clock.now().tzinfo))
    await service.work(hurried=True)
    assert T.Finality.Name((await service.get(settled.transaction_id)).finality) == FINAL


def sign(event: dict) -> tuple[bytes, str]:
    """As whoever has the secret of webhooks does."""
    body, now = json.dumps(event).encode(), int(time.time())
    code = hmac.new(WEBHOOK_SECRET.encode(), b"%d." % now + body, hashlib.sha256).hexdigest()
    return body, f"t={now},v1={code}"


@pytest.mark.parametrize(("kind", "about"), [
    ("customer.created", {"id": "cus_1"}),
    ("charge.refunded", {"id": "ch_of_nobody", "payment_intent": "pi_of_nobody"}),
])  # fmt: skip
async def test_a_webhook_under_the_id_of_an_event_hides_nothing_of_it_and_is_told(
    service, stripe, url, books, kind, about
) -> None:
    await begin(service, books)
    settled = await settle_without_webhooks(service, stripe, url)
    await become_final(service, settled)
    charge_id = read(books, settled.provider_reference)["latest_charge"]
    alter(books, charge_id, amount_refunded=100_00, refunded=True)
    event_id = tell(books, "charge.refunded", read(books, charge_id))
    forged = {"id": event_id, "type": kind, "livemode": False, "data": {"object": about}}
    await deliver(service, [sign(forged)])
    with capture_logs() as logs:
        await service.work()
    told = [each for each in logs if each["event"] == "payment_not_ours"]
    assert {each["payment_id"] for each in told} == {settled.provider_reference}
    assert [event_id in each["cause"] for each in told] == [True, False], "the webhook, and the refund"
    assert await service.run(read_provider_events) == 0


async def test_that_a_webhook_contradicts_an_event_is_told_once_the_event_is_stored(
    service, stripe, url, books, monkeypatch
) -> None:
    """Told while a transaction is open, it would need a connection more, and be told though the page is taken back."""
    await begin(service, books)
    settled = await settle_without_webhooks(service, stripe, url)
    event_id = tell(books, "charge.refunded", read(books, read(books, settled.provider_reference)["latest_charge"]))
    forged = {"id": event_id, "type": "customer.created", "livemode": False, "data": {"object": {"id": "cus_1"}}}
    await deliver(service, [sign(forged)])
    seen = []

    async def report(*told: object) -> None:
        seen.append((await read_cursor(service.database, stripe.events.feed)).reached)

    monkeypatch.setattr(READING, "report_apart", report)
    await service.run(read_provider_events)
    assert seen == [event_id]


async def test_events_are_read_a_page_at_a_time_and_by_several_at_once(service, books, monkeypatch) -> None:
    monkeypatch.setattr("services.transactions.providers.stripe.events.LIST_LIMIT", 2)
    await begin(service, books)
    told = [tell(books, "payment_intent.canceled", {"id": f"pi_of_nobody{number}"}) for number in range(7)]
    counts = await asyncio.gather(*(service.run(read_provider_events) for _ in range(4)))
    [source] = [each for name, each in service.dependencies.providers.events.items() if name == "stripe"]
    assert sum(counts) == 7
    assert (await read_cursor(service.database, source.feed)).reached == told[-1]


async def test_where_the_last_event_is_not_kept_any_more_all_that_is_kept_is_read(
    service, url, books, monkeypatch
) -> None:
    monkeypatch.setattr("services.transactions.providers.stripe.events.LIST_LIMIT", 3)
    api = StripeApi(API_KEY, url, 6)
    source = StripeEvents(api)
    told = [tell(books, "payment_intent.canceled", {"id": f"pi_late{number}"}) for number in range(8)]
    page = await source.list_events("evt_forgotten")
    assert (page.is_late, page.has_more) == (True, True)
    read = [event.event_id for event, _ in page.events]
    while page.has_more:
        page = await source.list_events(page.last_id)
        read += [event.event_id for event, _ in page.events]
    assert read[-8:] == told
    await api.close()


@pytest.mark.parametrize("after_id", ["", "evt_of_nobody"])
async def test_how_far_events_were_read_is_moved_by_no_login_and_a_refund_is_heard_of(
    service, stripe, url, books, after_id
) -> None:
    await begin(service, books)
    settled = await settle_without_webhooks(service, stripe, url)
    await become_final(service, settled)
    before, charge_id = count_alarms(), read(books, settled.provider_reference)["latest_charge"]
    alter(books, charge_id, amount_refunded=100_00, refunded=True)
    tell(books, "charge.refunded", read(books, charge_id))
    async with service.database.begin_for_all() as tx:
        move = sa.text("UPDATE feed_cursors SET reached = :to, version = version + 1 WHERE feed <> 'none'")
        await tx.execute(move, {"to": after_id})
    with capture_logs() as logs:
        await service.work()
    assert count_alarms() > before
    assert [each["provider"] for each in logs if each["event"] == "events_lost"] == ["stripe"]
    assert "events of stripe lost" in service.dependencies.alarms


@pytest.mark.parametrize("version", [0, -1])
async def test_no_login_puts_a_feed_to_where_none_goes_on(service, version) -> None:
    """Of a version that means none, each later one would be written as the first, and refused as the second."""
    put = sa.text("INSERT INTO feed_cursors VALUES ('new', 'x', :version, now(), 'none')")
    with pytest.raises(Exception, match="cursor_begins"):
        async with service.database.begin_for_all() as tx:
            await tx.execute(put, {"version": version})


async def test_that_nothing_says_how_far_events_were_read_is_told_once_payments_were_ordered(service) -> None:
    started = await start(service)
    await service.work()
    [source] = [each for name, each in service.dependencies.providers.events.items() if name == "stripe"]
    cursor = Cursor(None, None)
    for hours, is_told in ((0, False), (2, True)):
        service.clock.advance(timedelta(hours=hours))
        with capture_logs() as logs:
            await READING._list_next(service.dependencies, "stripe", source, cursor)
        assert ("events_lost" in {each["event"] for each in logs}) is is_told
    assert started.provider == "stripe"


async def test_an_event_that_cannot_be_read_keeps_no_other_from_being_read(service, books) -> None:
    await begin(service, books)
    tell(books, "charge.failed", {"id": "ch_of_no_intent"})
    tell(books, "payment_intent.canceled", {"id": "pi_behind_it"})
    with capture_logs() as logs:
        assert await service.run(read_provider_events) == 1
    assert [each["event_id"] for each in logs if each["event"] == "event_not_read"] == [
        "evt_ch_of_no_intent_charge.failed"
    ]
