"""Payments that left after the backup from which the database of transactions was restored: they do not leave again."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import timedelta

import pytest
from pydantic import SecretStr

from services.chassis.events.forgotten import list_and_record
from services.chassis.values.clock import SystemClock
from services.transactions.providers.plaid import former_transfers
from services.transactions.providers.settings import ProviderSettings
from tests.integration import plaid_desk, stripe_desk
from tests.integration.stripe_desk import API_KEY, BY_STRIPE, WEBHOOK_SECRET
from tests.support import servers
from tests.support.databases import open_database
from tests.support.event_keys import event_keys
from tests.support.restores import restored_to_here
from tests.support.transactions import TransactionsHarness

pytest_plugins = ("tests.integration.plaid_desk", "tests.integration.stripe_desk")


SETTINGS = ProviderSettings(stripe_api_key=SecretStr(API_KEY), stripe_webhook_secret=SecretStr(WEBHOOK_SECRET))


@pytest.fixture
def nats_url(tmp_path):
    """A server of the test's own: what others told here would be missing as well."""
    with servers.nats(tmp_path / "nats") as url:
        yield url


async def until_done(service, transaction_id, status="COMPLETED"):
    """Works until it is there, or for two seconds."""
    for _ in range(40):
        await service.work(hurried=True)
        if (await service.path(transaction_id))[-1] == status:
            return
        await asyncio.sleep(0.05)


async def look_through(service, js, folder):
    keys = event_keys(folder)
    await list_and_record(service.database, js, "transactions", keys, SystemClock(), seen_by="ops-1")


async def test_a_payout_that_plaid_has_since_the_backup_is_found_there_and_not_made_again(
    plaid_service, plaid_urls, plaid_books, js, tmp_path, monkeypatch
):
    monkeypatch.setattr(former_transfers, "_LISTED_MAX", 1)  # a page
    payout = await plaid_service.payout("inv-002", "08")
    async with restored_to_here(plaid_urls):
        await until_done(plaid_service, payout.transaction_id)
        [made] = plaid_desk.list_transfers(plaid_books, payout.transaction_id)
        later = await plaid_service.payout("inv-002", "08")
        await until_done(plaid_service, later.transaction_id)
    assert (await plaid_service.path(payout.transaction_id))[-1] != "COMPLETED"
    await look_through(plaid_service, js, tmp_path)
    await until_done(plaid_service, payout.transaction_id)
    assert [each["id"] for each in plaid_desk.list_transfers(plaid_books, payout.transaction_id)] == [made["id"]]
    found = await plaid_service.get(payout.transaction_id)
    assert found.provider_reference == made["id"]
    assert (await plaid_service.path(payout.transaction_id))[-1] == "COMPLETED"


async def test_a_debit_of_which_stripe_has_forgotten_the_key_is_found_there_and_not_made_again(
    service_urls, stripe, url, books, js, tmp_path
):
    urls = await service_urls("transactions")
    service = TransactionsHarness(
        open_database(urls, "transactions"), provider=stripe, choice=BY_STRIPE, settings=SETTINGS
    )
    confirmed = await stripe_desk.start(service, "02")
    stripe_desk.confirm(url, confirmed.provider_reference)
    await until_done(service, confirmed.transaction_id, "SETTLED")
    debit = await service.deposit(suffix="02")
    async with restored_to_here(urls):
        await until_done(service, debit.transaction_id, "PENDING_SETTLEMENT")
        [made] = list_intents(books, debit.transaction_id)
    with sqlite3.connect(books, timeout=5) as connection:
        connection.execute("DELETE FROM answers")  # as it does after a day
    service.clock.advance(timedelta(hours=25))
    await look_through(service, js, tmp_path)
    await until_done(service, debit.transaction_id, "PENDING_SETTLEMENT")
    assert list_intents(books, debit.transaction_id) == [made]
    assert (await service.get(debit.transaction_id)).provider_reference == made


def list_intents(books, reference):
    with sqlite3.connect(books, timeout=5) as connection:
        found = [json.loads(body) for (body,) in connection.execute("SELECT body FROM objects WHERE id LIKE 'pi_%'")]
    return [each["id"] for each in found if (each.get("metadata") or {}).get("reference") == reference]
