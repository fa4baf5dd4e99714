"""The stand-in for Plaid by itself, as a process of its own over HTTP: what it keeps, and what it refuses."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey

from sandbox.plaid.behaviours import BEHAVIOURS
from tests.integration.plaid_desk import CLIENT_ID, SECRET, ask, refusal, wait_for_knocks
from tests.support.stand_ins import find_free_port, run_stand_in

pytest_plugins = ("tests.integration.plaid_desk",)
ACCOUNT = {"routing_number": "110000000", "account_number": "000000000009", "account_type": "checking"}


def open_account(url: str) -> dict[str, Any]:
    made = ask(url, "/transfer/migrate_account", **ACCOUNT)
    return {"access_token": made["access_token"], "account_id": made["account_id"]}


def authorize(url: str, account: dict[str, Any], **more: Any) -> dict[str, Any]:
    asked = {"type": "debit", "network": "ach", "ach_class": "web", "amount": "10.00", "user": {"legal_name": "Ann"}}
    found: dict[str, Any] = ask(url, "/transfer/authorization/create", **account, **asked | more)["authorization"]
    return found


def create(url: str, account: dict[str, Any], authorization_id: str) -> dict[str, Any]:
    asked = {"authorization_id": authorization_id, "description": "x"}
    found: dict[str, Any] = ask(url, "/transfer/create", **account, **asked)["transfer"]
    return found


def test_a_key_is_one_authorization_for_the_same_order_until_it_is_forgotten(plaid_url, plaid_books) -> None:
    account = open_account(plaid_url)
    first = authorize(plaid_url, account, idempotency_key="k")
    assert authorize(plaid_url, account, idempotency_key="k")["id"] == first["id"]
    assert authorize(plaid_url, account, idempotency_key="k", amount="10.01")["id"] != first["id"]
    assert authorize(plaid_url, account)["id"] != authorize(plaid_url, account)["id"]
    with sqlite3.connect(plaid_books, timeout=5) as books:
        old = "UPDATE objects SET body = json_set(body, '$._made_ms', 0) WHERE id = ?"
        books.execute(old, (first["id"],))
    assert authorize(plaid_url, account, idempotency_key="k")["id"] != first["id"]


def test_an_authorization_makes_one_transfer_and_none_once_it_is_cancelled(plaid_url) -> None:
    account = open_account(plaid_url)
    used, cancelled = authorize(plaid_url, account), authorize(plaid_url, account)
    made = create(plaid_url, account, used["id"])
    assert create(plaid_url, account, used["id"])["id"] == made["id"]
    assert refusal(plaid_url, "/transfer/authorization/cancel", authorization_id=used["id"]) == (400, "INVALID_FIELD")
    ask(plaid_url, "/transfer/authorization/cancel", authorization_id=cancelled["id"])
    again = {"authorization_id": cancelled["id"], "description": "x", **account}
    assert refusal(plaid_url, "/transfer/create", **again) == (400, "INVALID_FIELD")
    assert refusal(plaid_url, "/transfer/get", authorization_id=cancelled["id"]) == (404, "NOT_FOUND")


def test_what_is_pending_can_be_cancelled_once_and_newest_come_first_in_a_list(plaid_url) -> None:
    account = open_account(plaid_url)
    ids = [create(plaid_url, account, authorize(plaid_url, account)["id"])["id"] for _ in range(3)]
    listed = ask(plaid_url, "/transfer/list", count=2)
    assert ([each["id"] for each in listed["transfers"]], listed["has_more"]) == (ids[:0:-1], True)
    ask(plaid_url, "/transfer/cancel", transfer_id=ids[0])
    assert ask(plaid_url, "/transfer/get", transfer_id=ids[0])["transfer"]["status"] == "cancelled"
    assert refusal(plaid_url, "/transfer/cancel", transfer_id=ids[0]) == (400, "TRANSFER_NOT_CANCELLABLE")


def test_events_are_numbered_as_they_happen_and_read_a_page_at_a_time(plaid_url) -> None:
    before = ask(plaid_url, "/transfer/event/sync", after_id=0, count=500)["transfer_events"]
    last = before[-1]["event_id"] if before else 0
    account = open_account(plaid_url)
    made = create(plaid_url, account, authorize(plaid_url, account)["id"])
    for status in ("posted", "settled", "returned"):
        ask(plaid_url, "/sandbox/transfer/simulate", transfer_id=made["id"], event_type=status)
    backwards = {"transfer_id": made["id"], "event_type": "settled"}
    assert refusal(plaid_url, "/sandbox/transfer/simulate", **backwards) == (400, "INVALID_FIELD")
    told: list[str] = []
    has_more = True
    while has_more:
        page = ask(plaid_url, "/transfer/event/sync", after_id=last, count=3)
        told += [each["event_type"] for each in page["transfer_events"] if each["transfer_id"] == made["id"]]
        last, has_more = page["transfer_events"][-1]["event_id"], page["has_more"]
    assert told == ["pending", "posted", "settled", "returned"]


async def test_a_webhook_is_signed_with_a_key_that_whoever_asks_for_it_gets(plaid_url, plaid_webhooks) -> None:
    account = open_account(plaid_url)
    create(plaid_url, account, authorize(plaid_url, account)["id"])
    body, proof = (await wait_for_knocks(plaid_webhooks, 1))[-1]
    signed = jwt.decode(proof, ECKey.import_key(find_key(plaid_url, proof)), algorithms=["ES256"])
    assert signed.claims["request_body_sha256"] == hashlib.sha256(body).hexdigest()
    unknown = refusal(plaid_url, "/webhook_verification_key/get", key_id="another")
    assert unknown == (400, "INVALID_WEBHOOK_VERIFICATION_KEY_ID")


def find_key(url: str, proof: str) -> dict[str, Any]:
    key_id = jws.extract_compact(proof.encode()).protected["kid"]
    found: dict[str, Any] = ask(url, "/webhook_verification_key/get", key_id=key_id)["key"]
    return found


def test_it_forgets_nothing_when_it_starts_again(tmp_path: Path) -> None:
    environment = {
        "SANDBOX_PLAID_DATABASE": str(tmp_path / "plaid.sqlite"),
        "SANDBOX_PLAID_CLIENT_ID": CLIENT_ID,
        "SANDBOX_PLAID_SECRET": SECRET,
    }
    kept = []
    for _ in range(2):
        port = find_free_port()
        with run_stand_in("sandbox.plaid", port, environment | {"SANDBOX_PLAID_PORT": str(port)}) as url:
            if not kept:
                account = open_account(url)
                create(url, account, authorize(url, account)["id"])
            listed = ask(url, "/transfer/list")["transfers"]
            kept.append((listed, ask(url, "/transfer/event/sync", after_id=0)["transfer_events"]))
    assert kept[0] == kept[1]
    with sqlite3.connect(tmp_path / "plaid.sqlite") as books:
        assert books.execute("SELECT count(*) FROM keys").fetchone() == (1,)


def test_it_says_which_account_numbers_do_what_and_answers_nobody_without_the_secret(plaid_url) -> None:
    told = httpx.get(f"{plaid_url}/test-values", trust_env=False).json()
    assert [each["account_number"] for each in told["data"]] == list(BEHAVIOURS)
    assert refusal(plaid_url, "/transfer/list", secret="another") == (400, "INVALID_API_KEYS")


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "10"},
        {"amount": "0.00"},
        {"ach_class": "none"},
        {"type": "credit", "ach_class": "web"},
        {"network": "wire"},
        {"user": {}},
        {"idempotency_key": "k" * 51},
    ],
    ids=str,
)
def test_what_plaid_would_not_take_is_refused(plaid_url, wrong) -> None:
    asked = {"type": "debit", "network": "ach", "ach_class": "web", "amount": "10.00", "user": {"legal_name": "Ann"}}
    wanted = refusal(plaid_url, "/transfer/authorization/create", **open_account(plaid_url), **asked | wrong)
    assert wanted == (400, "INVALID_FIELD")
