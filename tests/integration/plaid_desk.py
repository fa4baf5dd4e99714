"""The stand-in for Plaid, a process of its own, for tests of what talks to it; and what somebody could do there."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from pydantic import SecretStr
from realco.transactions.v1 import transactions_pb2, webhooks_pb2

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database import Database
from services.chassis.values.clock import FakeClock
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.providers.choice import Carriers, ProviderChoice
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.settings import ProviderSettings
from services.transactions.store.feed_cursors import Cursor, save_cursor
from tests.support import databases
from tests.support.stand_ins import WebhookReceiver, find_free_port, receive_webhooks, run_stand_in
from tests.support.transactions import ADMIN, MONDAY, ORG, TransactionsHarness
from tests.support.vault import build_vault

T = transactions_pb2.Transaction
CLIENT_ID, SECRET = "client_of_these_tests", "secret_of_these_tests"
VAULT = build_vault()  # as the harness has it
BY_PLAID = ProviderChoice(all_organizations={"ACH": Carriers(inbound="plaid", outbound="plaid")})


@pytest.fixture(scope="module")
def plaid_webhooks() -> Iterator[WebhookReceiver]:
    with receive_webhooks("Plaid-Verification") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def plaid_books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plaid") / "plaid.sqlite"


@pytest.fixture(scope="module")
def plaid_settle_ms() -> int:
    """How long a transfer is in each status. A file that wants none to move by itself says so."""
    return 50


@pytest.fixture(scope="module")
def plaid_url(plaid_books: Path, plaid_webhooks: WebhookReceiver, plaid_settle_ms: int) -> Iterator[str]:
    port = find_free_port()
    environment = {
        "SANDBOX_PLAID_PORT": str(port),
        "SANDBOX_PLAID_DATABASE": str(plaid_books),
        "SANDBOX_PLAID_CLIENT_ID": CLIENT_ID,
        "SANDBOX_PLAID_SECRET": SECRET,
        "SANDBOX_PLAID_WEBHOOK_URL": f"http://127.0.0.1:{plaid_webhooks.server.server_port}/",
        "SANDBOX_PLAID_SETTLE_MS": str(plaid_settle_ms),
        "SANDBOX_PLAID_SWEEP_MS": "86400000",  # a test has it swept when it wants
    }
    with run_stand_in("sandbox.plaid", port, environment) as running:
        yield running


@pytest.fixture
def plaid_clock() -> FakeClock:
    return FakeClock(MONDAY)


@pytest.fixture
async def plaid_urls(service_urls) -> Any:
    """Of the database in which the service keeps what it knows of Plaid."""
    return await service_urls("transactions")


@pytest.fixture
def plaid_database(plaid_urls: Any) -> Database:
    return databases.open_database(plaid_urls, "transactions")


@pytest.fixture
async def plaid_adapter(
    plaid_url: str, plaid_database: Database, plaid_clock: FakeClock
) -> AsyncIterator[PlaidTransfers]:
    adapter = PlaidTransfers(plaid_url, CLIENT_ID, SECRET, plaid_database, plaid_clock, VAULT)
    yield adapter
    await adapter.close()


@pytest.fixture
async def plaid(plaid_adapter: PlaidTransfers) -> AsyncIterator[PlaidTransfers]:
    """Asked as the job that orders asks: for an organization."""
    with acting_as(service_principal("transactions", ORG)):
        yield plaid_adapter


@pytest.fixture
async def plaid_service(
    plaid_url: str, plaid_adapter: PlaidTransfers, plaid_clock: FakeClock, plaid_database: Database, plaid_books: Path
) -> TransactionsHarness:
    """The service over it. What other tests did at the stand-in before counts as read."""
    async with plaid_database.begin_for_all() as tx:
        feed, last = plaid_adapter.events.feed, str(count_events(plaid_books))
        await save_cursor(tx, feed, Cursor(None, None), last, plaid_clock.now())
    settings = ProviderSettings(plaid_base_url=plaid_url, plaid_client_id=CLIENT_ID, plaid_secret=SecretStr(SECRET))
    return TransactionsHarness(
        plaid_database, clock=plaid_clock, provider=plaid_adapter, choice=BY_PLAID, settings=settings
    )


def count_events(books: Path) -> int:
    """The number of the last event that Plaid tells of."""
    with sqlite3.connect(books, timeout=5) as connection:
        [last] = connection.execute("SELECT coalesce(max(event_id), 0) FROM transfer_events").fetchone()
    return int(last)


async def write_past(urls: Any, statement: str, *arguments: Any) -> str:
    """What somebody writes who is over all rights and triggers; what PostgreSQL says that it did."""
    connection = await asyncpg.connect(urls.admin_url.replace("+asyncpg", ""))
    try:
        await connection.execute("SET session_replication_role = replica")
        return str(await connection.execute(statement, *arguments))
    finally:
        await connection.close()


async def set_back(urls: Any, authorization_id: str, row: dict[str, Any]) -> None:
    """Somebody writes a row of what was authorized as it was before, with the seal that it had then."""
    names = ("transfer_id", "ended_at", "updated_at", "version", "seal")
    changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(names, 2))
    statement = f"UPDATE plaid_transfers SET {changes} WHERE authorization_id = $1"
    assert await write_past(urls, statement, authorization_id, *(row[name] for name in names)) == "UPDATE 1"


async def becomes(plaid: PlaidTransfers, payment_id: str, status: PaymentStatus) -> Payment:
    for _ in range(300):
        payment = await plaid.get_payment(payment_id)
        assert payment is not None
        if payment.status is status:
            return payment
        await asyncio.sleep(0.02)
    raise AssertionError(f"it is still {payment.status}")


def alter(books: Path, object_id: str, **changes: Any) -> None:
    """What Plaid would show of an object after somebody there has changed it."""
    with sqlite3.connect(books, timeout=5) as connection:
        [body] = connection.execute("SELECT body FROM objects WHERE id = ?", (object_id,)).fetchone()
        changed = json.dumps(json.loads(body) | changes)
        connection.execute("UPDATE objects SET body = ? WHERE id = ?", (changed, object_id))


def read(books: Path, object_id: str) -> dict[str, Any]:
    with sqlite3.connect(books, timeout=5) as connection:
        [body] = connection.execute("SELECT body FROM objects WHERE id = ?", (object_id,)).fetchone()
    found: dict[str, Any] = json.loads(body)
    return found


def list_objects(books: Path, kind: str, where: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    with sqlite3.connect(books, timeout=5) as connection:
        rows = connection.execute("SELECT body FROM objects WHERE kind = ? ORDER BY sequence", (kind,)).fetchall()
    return [each for each in (json.loads(body) for (body,) in rows) if where(each)]


def list_transfers(books: Path, reference: str) -> list[dict[str, Any]]:
    """Those that Plaid has under our reference."""
    return list_objects(books, "transfer", lambda each: each["metadata"].get("reference") == reference)


def ask(url: str, path: str, **asked: Any) -> dict[str, Any]:
    """What whoever has the keys asks of Plaid."""
    body = {"client_id": CLIENT_ID, "secret": SECRET, **asked}
    answer = httpx.post(f"{url}{path}", json=body, trust_env=False).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def refusal(url: str, path: str, **asked: Any) -> tuple[int, str]:
    """(HTTP status, error code)."""
    answer = httpx.post(f"{url}{path}", json={"client_id": CLIENT_ID, "secret": SECRET, **asked}, trust_env=False)
    return answer.status_code, answer.json()["error_code"]


def sign_in(url: str, user: str = "user_good", number: str = "pass_good") -> str:
    """The public token of a person who has signed in to a bank, without the page."""
    options = {"override_username": user, "override_password": number}
    asked = {"institution_id": "ins_109508", "initial_products": ["auth"], "options": options}
    token: str = ask(url, "/sandbox/public_token/create", **asked)["public_token"]
    return token


def list_open_items(books: Path) -> list[str]:
    """The Items that were linked, and that somebody may still ask about."""
    found = list_objects(books, "linked_item", lambda each: not each["_is_removed"])
    return [each["item_id"] for each in found]


def simulate(url: str, transfer_id: str, *statuses: str, code: str = "R01") -> None:
    """What becomes of a transfer at Plaid, which tells of each step."""
    for status in statuses:
        reason = {"ach_return_code": code} if status == "returned" else None
        ask(url, "/sandbox/transfer/simulate", transfer_id=transfer_id, event_type=status, failure_reason=reason)


async def deliver(service: TransactionsHarness, received: list[tuple[bytes, str]]) -> None:
    for body, proof in received:
        request = webhooks_pb2.ReceivePlaidWebhookRequest(body=HttpBody(data=body), verification=proof)
        await service.ask(ADMIN, "ReceivePlaidWebhook", request)


async def wait_for_knocks(webhooks: WebhookReceiver, count: int) -> list[tuple[bytes, str]]:
    for _ in range(500):
        if len(webhooks.received) >= count:
            return list(webhooks.received)
        await asyncio.sleep(0.02)
    raise AssertionError("no webhook was sent")
