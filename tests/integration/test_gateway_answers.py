"""What services refuse, services that come and go, limits, and the process itself."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import httpx
import pytest
from realco.transactions.v1 import transactions_pb2, webhooks_pb2

from gateway import contracts
from gateway.upstream import PATIENCE_SECONDS
from services.chassis.calls.sign_in import InsufficientUserAuthentication
from services.chassis.spelling.descriptors import camel_case
from services.chassis.values import errors
from services.chassis.values.refusals import PartyNotFound
from tests.support.gateway import (
    ESCROW_ACCOUNT,
    KEY,
    TRANSACTION,
    is_problem,
    new_transaction,
    run_gateway,
    token,
    write_issuers,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


# --- refusals of services


class KeyReused(errors.DomainError):
    kind = errors.Kind.FAILED_PRECONDITION
    reason = "IDEMPOTENCY_KEY_REUSED"


class InFlight(errors.DomainError):
    kind = errors.Kind.ABORTED
    reason = "REQUEST_IN_FLIGHT"


class Poor(errors.DomainError):
    kind = errors.Kind.FAILED_PRECONDITION
    reason = "INSUFFICIENT_AVAILABLE_BALANCE"


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (KeyReused("Another body.", idempotency_key="key-1"), 422),
        (InFlight("Still running.", idempotency_key="key-1"), 409),
        (Poor("Too little.", available_minor=5), 422),
        (PartyNotFound(), 404),
        (errors.PermissionDenied("Maker is checker."), 403),
        (errors.Unavailable("Away."), 503),
    ],
)
async def test_a_services_refusal_is_a_problem_with_its_code(gateway, refusal, status):
    gateway.services.answers["CreateTransaction"] = refusal
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY)
    problem = is_problem(response, status, refusal.reason)
    assert problem["detail"] == refusal.message
    assert problem.get("metadata", {}) == {camel_case(key): value for key, value in refusal.metadata.items()}


async def test_a_caller_who_must_sign_in_again_is_told_how(gateway):
    refusal = InsufficientUserAuthentication("Sign in again.", max_age=300, acr_values="gold")
    gateway.services.answers["CreateTransaction"] = refusal
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY)
    is_problem(response, 401, "INSUFFICIENT_USER_AUTHENTICATION")
    scheme, _, wanted = response.headers["www-authenticate"].partition(" ")
    assert (scheme, dict(pair.split("=") for pair in wanted.split(", "))) == (
        "Bearer",
        {
            "error": '"insufficient_user_authentication"',
            "error_description": '"Sign in again."',
            "acr_values": '"gold"',
            "max_age": '"300"',
        },
    )


async def test_the_fields_a_service_refuses_are_placed_in_the_body_and_headers(gateway):
    fields = {
        "amount.amount_minor": "is over",
        "idempotency_key": "is odd",
        "escrow_account_id": "is of another currency",
    }
    gateway.services.answers["CreateTransaction"] = errors.InvalidField("No.", fields=fields)
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY)
    found = {(error["in"], error["pointer"]) for error in is_problem(response, 400, "INVALID_FIELD")["errors"]}
    assert found == {("body", "/amount/amountMinor"), ("header", "/Idempotency-Key"), ("body", "/escrowAccountId")}


async def test_an_answer_given_before_says_so_whatever_it_was(gateway):
    transaction = transactions_pb2.Transaction(transaction_id="txn_" + "0" * 26)
    gateway.services.answers["CreateTransaction"] = transaction
    for replayed in (False, True):
        gateway.services.replayed = replayed
        response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY)
        assert response.status_code == 201
        assert response.headers["location"] == f"/api/v1/transactions/{transaction.transaction_id}"
        assert response.headers.get("idempotency-replayed") == ("true" if replayed else None)
    gateway.services.answers["CreateTransaction"] = Poor("Too little.", available_minor=5)
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY)
    assert (response.status_code, response.headers["idempotency-replayed"]) == (422, "true")


async def test_a_bug_in_a_service_shows_an_id_and_nothing_else(gateway):
    gateway.services.answers["GetTransaction"] = RuntimeError("password=hunter2 at 10.0.0.7")
    response = await gateway.request("GET", TRANSACTION)
    problem = is_problem(response, 500, "INTERNAL")
    assert problem["metadata"]["errorId"].startswith("err_")
    assert "hunter2" not in response.text
    assert "10.0.0.7" not in response.text


# --- webhooks


async def test_a_webhook_passes_byte_for_byte_without_a_token(gateway):
    raw = b'{ "id": "evt_1",\n "id": "evt_1" }\xff'
    gateway.services.answers["ReceiveStripeWebhook"] = webhooks_pb2.ReceiveWebhookResponse(webhook_id="whk_1")
    headers = {"Stripe-Signature": "t=1,v1=aa", "Content-Type": "application/json; charset=utf-8"}
    response = await gateway.request("POST", "/api/v1/webhooks/stripe", role=None, content=raw, headers=headers)
    assert (response.status_code, response.json()) == (200, {"webhookId": "whk_1", "replayed": False})
    request = gateway.services.calls[0].request
    assert (request.body.data, request.signature) == (raw, "t=1,v1=aa")


async def test_a_webhook_that_is_too_large_is_refused(gateway):
    response = await gateway.request("POST", "/api/v1/webhooks/plaid", role=None, content=b"x" * 2**20)
    is_problem(response, 413, "PAYLOAD_TOO_LARGE")


# --- services that come and go


async def test_a_service_that_restarts_costs_a_wait_where_asking_twice_is_safe(tmp_path):
    async with run_gateway(tmp_path) as gateway:
        await gateway.request("GET", TRANSACTION)
        await gateway.grpc_server.stop(None)
        waiting = asyncio.gather(
            gateway.request("GET", TRANSACTION),
            gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY),
        )
        with pytest.raises(TimeoutError):  # nobody is there: both wait
            await asyncio.wait_for(asyncio.shield(waiting), 0.5)
        server, _ = await gateway.services.start(gateway.grpc_port)
        assert [response.status_code for response in await waiting] == [200, 201]
        await server.stop(None)


async def test_a_service_that_is_away_is_a_503_in_time(tmp_path):
    async with run_gateway(tmp_path) as gateway:
        await gateway.grpc_server.stop(None)
        started = time.monotonic()
        response = await gateway.request("GET", TRANSACTION)
        assert 2 < time.monotonic() - started < 9
        is_problem(response, 503, "UNAVAILABLE")
        assert response.headers["retry-after"] == "1"


async def test_what_may_not_be_asked_twice_is_a_503_at_once(tmp_path):
    async with run_gateway(tmp_path) as gateway:
        await gateway.grpc_server.stop(None)
        started = time.monotonic()
        is_problem(await gateway.request("POST", f"{TRANSACTION}/cancel"), 503, "UNAVAILABLE")
        assert time.monotonic() - started < PATIENCE_SECONDS


async def test_a_service_that_hangs_is_a_504(tmp_path):
    async with run_gateway(tmp_path, request_seconds_max=0.5) as gateway:
        gateway.services.open.clear()
        is_problem(await gateway.request("GET", TRANSACTION), 504, "DEADLINE_EXCEEDED")


async def test_a_body_that_never_ends_is_a_408_before_the_request_runs_out_of_time(tmp_path):
    """With the settings as they are: both limits are the same."""
    async with run_gateway(tmp_path, request_seconds_max=1, receive_seconds_max=1) as gateway:
        headers = b"Host: x\r\nContent-Length: 10\r\n\r\n{"
        answer = await gateway.send_raw(b"POST /api/v1/webhooks/stripe HTTP/1.1\r\n" + headers)
    assert answer.startswith(b"HTTP/1.1 408 ")


# --- limits


def first_refused(answers: list[httpx.Response], allowed: int) -> httpx.Response:
    """The first 429. One more than allowed may pass where a new minute begins between two requests."""
    statuses = [answer.status_code for answer in answers]
    at = statuses.index(429)
    assert at in (allowed, allowed + 1)
    is_problem(answers[at], 429, "RATE_LIMITED")
    return answers[at]


async def test_a_caller_that_asks_too_often_is_told_when_to_come_back(tmp_path):
    async with run_gateway(tmp_path, rate_per_principal="3/minute") as gateway:
        answers = [await gateway.request("GET", TRANSACTION) for _ in range(8)]
        other = await gateway.request("GET", TRANSACTION, role="auditor")
    refused = first_refused(answers, 3)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert other.status_code == 200


async def test_one_organization_does_not_use_up_what_another_may_ask(tmp_path):
    async with run_gateway(tmp_path, rate_per_organization="3/minute") as gateway:
        answers = [await gateway.request("GET", TRANSACTION, role=role) for role in ("admin", "auditor") * 4]
        bearer = {"Authorization": f"Bearer {token(org_id='org-2')}"}
        other = await gateway.request("GET", TRANSACTION, role=None, headers=bearer)
    first_refused(answers, 3)
    assert other.status_code == 200


async def test_each_answer_says_how_much_a_caller_may_still_ask_for(tmp_path):
    async with run_gateway(tmp_path, rate_per_principal="1000/hour") as gateway:
        answers = [await gateway.request("GET", TRANSACTION) for _ in range(2)]
        public = await gateway.request("GET", "/healthz", role=None)
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["999", "998"]
    assert answers[0].headers["ratelimit-limit"] == "1000"
    assert 1 <= int(answers[0].headers["ratelimit-reset"]) <= 3600
    assert public.headers["ratelimit-limit"] == "60000"  # of the address


@pytest.mark.parametrize("rate", ["rate_per_principal", "rate_per_organization"])
async def test_a_batch_costs_as_much_as_its_items(tmp_path, rate):
    async with run_gateway(tmp_path, **{rate: "1000/hour"}) as gateway:
        answers = [await post_batch(gateway, items) for items in (600, 390, 20, 1)]
        rest = await gateway.request("GET", TRANSACTION)
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    is_problem(answers[2], 429, "RATE_LIMITED")
    if rate == "rate_per_principal":
        # Each request counts as one before its body is read: 600, 390, the one that was refused, 1, 1.
        assert [one.headers["ratelimit-remaining"] for one in (*answers, rest)] == ["400", "10", "9", "8", "7"]


async def test_a_batch_of_more_items_than_a_whole_rate_has_a_time_when_it_passes(tmp_path):
    async with run_gateway(tmp_path, rate_per_principal="10/hour") as gateway:
        answers = [await post_batch(gateway, 500) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


async def post_batch(gateway, items: int) -> httpx.Response:
    entry = {"type": "ADJUSTMENT", "description": "x", "legs": []}
    path = f"/api/v1/escrow-accounts/{ESCROW_ACCOUNT}/journal-entries/batch"
    body = {"items": [{"idempotencyKey": f"k{n}", "journalEntry": entry} for n in range(items)]}
    return await gateway.request("POST", path, json=body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{TRANSACTION}/approve", {"contentHash": "0" * 64}),
        ("POST", "/api/v1/bank-accounts", {"accountNumber": "1234567890"}),
        ("POST", "/api/v1/bank-accounts/link-token", {}),
        ("POST", "/api/v1/bank-accounts/link", {"publicToken": "public-sandbox-1"}),
        ("POST", "/api/v1/api-keys/key_1/token", {"secret": "guessed"}),
    ],
)
async def test_what_a_guesser_does_often_and_a_person_seldom_has_a_lower_rate(tmp_path, method, path, body):
    async with run_gateway(tmp_path, rate_of_guarded_calls="2/minute") as gateway:
        answers = [await gateway.request(method, path, json=body) for _ in range(5)]
        read = await gateway.request("GET", TRANSACTION)
    assert first_refused(answers, 2).headers["ratelimit-limit"] == "2"
    assert read.status_code == 200


CONSOLE = "https://console.example.com"


@pytest.mark.parametrize(("origin", "admitted"), [(CONSOLE, True), ("https://evil.example.com", False)])
async def test_pages_of_the_origins_that_were_named_may_call_from_a_browser(tmp_path, origin, admitted):
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,if-match",
    }
    async with run_gateway(tmp_path, cors_origins=[CONSOLE]) as gateway:
        preflight = await gateway.client.options("/api/v1/transactions", headers=asked)
        answer = await gateway.request("GET", TRANSACTION, headers={"Origin": origin})
    assert preflight.is_success is admitted
    for response in (preflight, answer):
        assert response.headers.get("access-control-allow-origin") == (CONSOLE if admitted else None)
    assert "access-control-allow-credentials" not in answer.headers
    if admitted:
        assert "Idempotency-Replayed" in answer.headers["access-control-expose-headers"]


async def test_no_page_of_another_origin_calls_where_none_was_named(gateway):
    answer = await gateway.request("GET", TRANSACTION, headers={"Origin": CONSOLE})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("taken", "coding"), [("gzip", "gzip"), ("identity", None)])
async def test_a_long_answer_is_compressed_for_whoever_takes_it(gateway, taken, coding):
    long = await gateway.request("GET", "/openapi.json", headers={"Accept-Encoding": taken})
    short = await gateway.request("GET", "/healthz", headers={"Accept-Encoding": taken})
    assert (long.headers.get("content-encoding"), short.headers.get("content-encoding")) == (coding, None)
    assert long.headers["vary"] == "Accept-Encoding"
    assert long.json()["openapi"] == "3.1.0"


async def test_an_address_that_asks_too_often_is_refused_before_its_token_is_read(tmp_path):
    async with run_gateway(tmp_path, rate_per_address="2/minute") as gateway:
        answers = [await gateway.request("GET", "/nowhere", role=None) for _ in range(6)]
    first_refused(answers, 2)


async def test_guessing_tokens_ends(tmp_path):
    async with run_gateway(tmp_path, rate_of_refused_tokens="2/minute") as gateway:
        bad = {"Authorization": "Bearer no"}
        answers = [await gateway.request("GET", TRANSACTION, role=None, headers=bad) for _ in range(6)]
    first_refused(answers, 2)


async def test_more_requests_at_once_than_can_be_served_are_refused_at_once(tmp_path):
    async with run_gateway(tmp_path, requests_max=2) as gateway:
        gateway.services.open.clear()
        requests = [asyncio.create_task(gateway.request("GET", TRANSACTION)) for _ in range(6)]
        refused = [await answer for _, answer in zip(range(4), asyncio.as_completed(requests), strict=False)]
        gateway.services.open.set()
        answers = await asyncio.gather(*requests)
    assert [answer.status_code for answer in refused] == [503] * 4
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [503] * 4


# --- the process

ROOT = Path(__file__).parents[2]
ADDRESSES = {f"{service.upper()}_ADDRESS": "127.0.0.1:1" for service in contracts.servers()}


async def start_process(**environment: str) -> asyncio.subprocess.Process:
    clean = {"PATH": os.environ["PATH"], "PORT": "0", "DRAIN_WAIT_SECONDS": "0", **environment}
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", env=clean, cwd=ROOT, **pipes)


async def test_the_process_serves_until_it_is_told_to_end(tmp_path):
    process = await start_process(ISSUERS_FILE=str(write_issuers(tmp_path)), **ADDRESSES)
    try:
        serving = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        assert serving["event"] == "serving"
        async with httpx.AsyncClient(base_url=serving["address"], verify=False) as client:
            assert (await client.get("/healthz")).status_code == 200
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, ", ".join(ADDRESSES).encode()),
        (ADDRESSES, b"ISSUERS_FILE"),
        ({"PORT": "x"}, b"PORT"),
        ({"RATE_PER_ADDRESS": "often"}, b"RATE_PER_ADDRESS"),
        ({"CORS_ORIGINS": '["*"]'}, b"CORS_ORIGINS"),
    ],
)
async def test_the_process_names_the_setting_it_cannot_start_with(environment, named):
    process = await start_process(**environment)
    _, words = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert named in words
    assert b"often" not in words
