"""The feeds of providers: what cannot be read of one stops neither its other events nor those of the next provider."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import transactions_pb2
from structlog.testing import capture_logs

from services.chassis.data.migrate import begin_incarnation
from services.chassis.process import loops
from services.transactions.jobs.read_provider_events import read_provider_events
from services.transactions.providers.plaid import events
from services.transactions.store.feed_cursors import Cursor, read_cursor
from tests.integration.plaid_desk import count_events, simulate
from tests.integration.test_transactions_plaid_events import start
from tests.support.provider_events import NoEvents

pytest_plugins = ("tests.integration.plaid_desk",)
T = transactions_pb2.Transaction


@pytest.fixture(scope="module")
def plaid_settle_ms() -> int:
    return 3_600_000


def tell_oddly(books: Path, **odd: Any) -> None:
    """Plaid has one event more, like the last one but for this."""
    with sqlite3.connect(books, timeout=5) as connection:
        [body] = connection.execute("SELECT body FROM transfer_events ORDER BY event_id DESC LIMIT 1").fetchone()
        connection.execute("INSERT INTO transfer_events (body) VALUES (?)", (json.dumps(json.loads(body) | odd),))


@pytest.mark.parametrize(("odd", "is_stored"), [
    ({"transfer_id": "x" * 400}, False),
    ({"transfer_id": "a\u0000b"}, False),
    ({"event_type": "sweep." + "x" * 400}, True),
    ({"event_type": "a\u0000b"}, True),
    ({"transfer_amount": "9" * 400}, True),
])  # fmt: skip
async def test_an_event_that_cannot_be_read_keeps_no_other_of_plaid_from_being_heard_of(
    plaid_service, plaid_url, plaid_books, odd, is_stored
) -> None:
    started = await start(plaid_service)
    tell_oddly(plaid_books, **odd)
    simulate(plaid_url, started.provider_reference, "posted", "settled")
    with capture_logs() as logs:
        await plaid_service.work()
    assert (await plaid_service.get(started.transaction_id)).status == T.SETTLED
    assert ("event_not_read" in {each["event"] for each in logs}) is not is_stored
    assert await plaid_service.run(read_provider_events) == 0
    async with plaid_service.database.begin_for_all() as tx:
        assert await tx.scalar(sa.text("SELECT count(*) FROM received_webhooks")) == 3 + is_stored


async def test_a_provider_whose_events_cannot_be_read_keeps_no_other_from_being_read_and_is_an_alarm_until_they_can(
    plaid_service, plaid_url, monkeypatch
) -> None:
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", "settled")

    async def refuse(feed: NoEvents) -> None:
        raise KeyError("id")

    monkeypatch.setattr(loops, "ALARM_SECONDS", 0.0)  # and not minutes
    alarms = plaid_service.dependencies.alarms
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(NoEvents, "list_oldest", refuse)
        await plaid_service.work()
    assert ("stripe", "KeyError") in {(each.get("provider"), each.get("cause")) for each in logs}
    assert (await plaid_service.get(started.transaction_id)).status == T.SETTLED
    assert alarms.keys() == {"events of stripe"}
    await plaid_service.run(read_provider_events)
    assert alarms == {}


async def test_many_events_are_read_a_page_at_a_time(plaid_service, plaid_url, monkeypatch) -> None:
    monkeypatch.setattr(events, "EVENTS_MAX", 2)
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", "settled", "funds_available")
    assert await plaid_service.run(read_provider_events) == 3


async def test_a_position_that_was_kept_from_before_a_restore_has_no_event_passed_over(
    plaid_service, plaid_adapter, plaid_urls, plaid_url, plaid_books
) -> None:
    """After the restore there is what was written before the backup, and who kept the later row writes it back."""
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", "settled")
    kept = await read_cursor(plaid_service.database, plaid_adapter.events.feed)
    assert kept.reached
    await begin_incarnation(plaid_urls.owner_url)
    assert await read_cursor(plaid_service.database, plaid_adapter.events.feed) == Cursor(None, kept.version)
    with capture_logs() as logs:
        assert await plaid_service.run(read_provider_events) >= 2
    assert "plaid" in {each["provider"] for each in logs if each["event"] == "events_lost"}
    found = await read_cursor(plaid_service.database, plaid_adapter.events.feed)
    assert found == Cursor(str(count_events(plaid_books)), kept.version + 1)
