"""The gateway over real sockets: HTTP in front, gRPC behind, and every bad input of the street."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import json
import os
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty
from joserfc.jwk import ECKey
from realco.transactions.v1 import transactions_pb2, webhooks_pb2

from gateway.upstream import RETURN_SECONDS_MAX
from services.chassis import errors
from tests.support.street import ISSUER, ISSUER_KEY, KEY_ID, SERVICE, Street, street, token, write_jwks

ROOT = Path(__file__).parents[2]
TRANSACTION = "/api/v1/transactions/txn_" + "0" * 26
ESCROW_ACCOUNT = "esc_" + "0" * 26
KEY = {"Idempotency-Key": "key-1"}
JSON = {"Content-Type": "application/json"}


def new_transaction(**changes: Any) -> dict[str, Any]:
    body = {
        "type": "DEPOSIT",
        "paymentMethod": "WIRE",
        "amount": {"currencyCode": "USD", "amountMinor": "1050"},
        "escrowAccountId": ESCROW_ACCOUNT,
    }
    return {**body, **changes}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Street]:
    async with street(tmp_path_factory.mktemp("gateway"), receive_seconds_max=1) as running:
        yield running


@pytest.fixture
def gateway(one_gateway: Street) -> Street:
    one_gateway.forget()
    return one_gateway


def is_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert {"type", "title", "detail", "instance", "errors"} <= set(problem)
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


async def test_a_read_comes_back_as_json(gateway):
    gateway.services.answers["GetTransaction"] = transactions_pb2.Transaction(
        transaction_id="txn_1", status=7, amount={"currency_code": "USD", "amount_minor": 5}
    )
    response = await gateway.request("GET", TRANSACTION)
    assert response.status_code == 200
    assert response.json()["status"] == "SETTLED"
    assert response.json()["amount"] == {"currencyCode": "USD", "amountMinor": "5"}
    assert gateway.services.calls[0].request.transaction_id == "txn_" + "0" * 26


async def test_what_is_created_is_201_and_its_key_reaches_the_service(gateway):
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY)
    assert response.status_code == 201
    request = gateway.services.calls[0].request
    assert (request.request_id, request.amount.amount_minor) == ("key-1", 1050)


async def test_what_has_nothing_to_say_is_204(gateway):
    gateway.services.answers["DeleteBankAccount"] = Empty()
    response = await gateway.request("DELETE", "/api/v1/bank-accounts/ba_" + "0" * 26)
    assert (response.status_code, response.content) == (204, b"")


async def test_a_batch_goes_by_its_custom_verb(gateway):
    entry = {"type": "ADJUSTMENT", "description": "x", "legs": []}
    items = [{"requestId": f"k{n}", "journalEntry": entry} for n in range(1000)]
    path = f"/api/v1/escrow-accounts/{ESCROW_ACCOUNT}/journal-entries:batch"
    response = await gateway.request("POST", path, json={"items": items})
    assert response.status_code == 200, response.text
    assert len(gateway.services.calls[0].request.items) == 1000


async def test_head_is_a_get_without_a_body(gateway):
    response = await gateway.request("HEAD", TRANSACTION)
    assert (response.status_code, response.content) == (200, b"")


async def test_every_answer_carries_the_security_headers_and_the_request_id(gateway):
    for path in ("/healthz", "/nowhere", TRANSACTION, "/docs", "/openapi.json"):
        headers = (await gateway.request("GET", path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-request-id"]
        assert "server" not in headers


async def test_a_sane_request_id_is_kept_and_passed_on_with_the_trace(gateway):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = await gateway.request("GET", TRANSACTION, headers={"X-Request-Id": "req-7", "traceparent": trace})
    metadata = gateway.services.calls[0].metadata
    assert response.headers["x-request-id"] == metadata["x-request-id"] == "req-7"
    assert metadata["traceparent"].split("-")[1] == trace.split("-")[1]


@pytest.mark.parametrize("given", ["", "a b", "a" * 200, "<script>", "é"])
async def test_another_request_id_is_replaced(gateway, given):
    response = await gateway.client.get("/healthz", headers=[(b"x-request-id", given.encode("latin-1"))])
    assert response.headers["x-request-id"].startswith("req_")


async def test_spoofed_headers_are_neither_believed_nor_passed_on(gateway):
    spoofs = ["X-Forwarded-For", "X-Forwarded-User", "X-Realco-Org", "X-Realco-On-Behalf-Of", "X-User-Id", "X-Tenant"]
    override = {"X-HTTP-Method-Override": "DELETE"}
    response = await gateway.request("GET", TRANSACTION, headers=dict.fromkeys(spoofs, "admin-1") | override)
    assert response.status_code == 200
    call = gateway.services.calls[0]
    assert call.rpc == "GetTransaction"
    assert not [key for key in call.metadata if key in {spoof.lower() for spoof in spoofs}]


async def test_the_service_is_given_less_time_than_the_caller(gateway):
    await gateway.request("GET", TRANSACTION)
    assert 9 < gateway.services.calls[0].seconds_left < 10


# --- who is calling


def hs256(secret: bytes) -> str:
    """A token whose header makes a public key the secret of a symmetric signature."""
    _, claims, _ = token().split(".")
    header = json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": KEY_ID}).encode()
    signed = f"{urlsafe_b64encode(header).decode().rstrip('=')}.{claims}"
    signature = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{urlsafe_b64encode(signature).decode().rstrip('=')}"


BAD_TOKENS = {
    "expired": lambda: token(iat=int(time.time()) - 400, exp=int(time.time()) - 100),
    "from the future": lambda: token(iat=int(time.time()) + 600, exp=int(time.time()) + 800),
    "of a long life": lambda: token(exp=int(time.time()) + 86400),
    "without an end": lambda: token(exp=None),
    "for somebody else": lambda: token(aud="another"),
    "of another issuer": lambda: token(iss="https://elsewhere.test"),
    "of an unknown role": lambda: token(role="root"),
    "without an organization": lambda: token(org_id=None),
    "for all organizations": lambda: token(org_id="*"),
    "an ID token": lambda: token(header={"typ": "JWT"}),
    "without a type": lambda: token(header={"typ": None}),
    "of an unknown key": lambda: token(header={"kid": "issuer-2"}),
    "with a key of its own": lambda: token(header={"jku": "https://elsewhere.test/jwks"}),
    "with critical headers": lambda: token(header={"crit": ["b64"], "b64": True}),
    "signed by another key": lambda: token(key=ECKey.generate_key("P-256", private=True)),
    "signed with the public key": lambda: hs256(ISSUER_KEY.as_pem(private=False)),
    "claiming to be a service": lambda: token(sub="service:escrow"),
    "unsigned": lambda: "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.eyJzdWIiOiJhZG1pbi0xIn0.",
    "garbled": lambda: token()[:-5] + "AAAAA",
    "cut": lambda: token().rpartition(".")[0],
    "long": lambda: "a" * 9000,
    "empty": lambda: "",
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_bad_token_is_refused(gateway, kind):
    headers = {"Authorization": f"Bearer {BAD_TOKENS[kind]()}".strip()}
    response = await gateway.request("GET", TRANSACTION, role=None, headers=headers)
    is_problem(response, 401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert gateway.services.calls == []


@pytest.mark.parametrize(
    "headers", [[], [("Authorization", "Basic YTpi")], [("Authorization", "Bearer a"), ("Authorization", "Bearer b")]]
)
async def test_without_one_bearer_token_nobody_passes(gateway, headers):
    is_problem(await gateway.client.get(TRANSACTION, headers=headers), 401, "UNAUTHENTICATED")


async def test_a_role_that_may_not_is_refused_before_its_body_is_read(gateway):
    path = "/api/v1/transaction-limits/DAILY_DEPOSIT"
    is_problem(await gateway.request("PUT", path, role="auditor", content=b"{"), 403, "PERMISSION_DENIED")
    assert gateway.services.calls == []


async def test_a_services_own_token_does_not_pass(gateway):
    headers = {"Authorization": f"Bearer {SERVICE.token()}", "X-Realco-Org": "org-1"}
    response = await gateway.request("GET", f"/api/v1/escrow-accounts/{ESCROW_ACCOUNT}", role=None, headers=headers)
    is_problem(response, 403, "PERMISSION_DENIED")


async def test_the_callers_token_goes_with_the_call_and_not_with_a_public_one(gateway):
    mine = token("investor")
    await gateway.request("GET", TRANSACTION, headers={"Authorization": f"Bearer {mine}"})
    await gateway.request("POST", "/api/v1/webhooks/stripe", content=b"{}")
    authorizations = [call.metadata.get("authorization") for call in gateway.services.calls]
    assert authorizations == [f"Bearer {mine}", None]


# --- what is in the body

BAD_BODIES = {
    "no JSON": b"type=DEPOSIT",
    "a duplicate key": b'{"type": "DEPOSIT", "type": "DEPOSIT"}',
    "an unknown field": json.dumps(new_transaction(note="x")).encode(),
    "a prototype": b'{"__proto__": {"role": "admin"}}',
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(new_transaction()).encode(),
    "trailing garbage": json.dumps(new_transaction()).encode() + b"x",
    "two documents": json.dumps(new_transaction()).encode() * 2,
    "comments": b'{/**/"type": "DEPOSIT"}',
    "depth 10,000": b'{"amount":' * 10_000 + b"1" + b"}" * 10_000,
    "a lone surrogate": b'{"description": "\\ud800"}',
    "a NUL": json.dumps(new_transaction(description="a\0b")).encode(),
    "invalid UTF-8": b'{"description": "\xff"}',
    "a list": b"[]",
    "a text": b'"x"',
    "nothing but null": b"null",
    "NaN": b'{"amount": {"amountMinor": NaN}}',
}


@pytest.mark.parametrize("kind", BAD_BODIES)
async def test_a_bad_body_is_refused(gateway, kind):
    options = {"content": BAD_BODIES[kind], "headers": {**KEY, **JSON}}
    problem = is_problem(await gateway.request("POST", "/api/v1/transactions", **options), 400, "INVALID_FIELD")
    assert problem["errors"]
    assert all(error["in"] == "body" for error in problem["errors"])
    assert gateway.services.calls == []


BAD_AMOUNTS = [0, -1, "-0", "0", "-5", 1.5, "1.5", "1e3", 1e3, "1,000", " 1", "NaN", "Infinity", 2**63, str(2**63)]
BAD_AMOUNTS += [2**62, str(2**62), "1" + "0" * 40, 10**40, True, None, [], "\uff11\uff12", "", "0x10"]


@pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=str)
async def test_a_bad_amount_is_refused_where_it_stands(gateway, amount):
    body = new_transaction(amount={"currencyCode": "USD", "amountMinor": amount})
    response = await gateway.request("POST", "/api/v1/transactions", json=body, headers=KEY)
    problem = is_problem(response, 400, "INVALID_FIELD")
    assert problem["errors"][0]["pointer"] in ("/amount", "/amount/amountMinor")
    assert gateway.services.calls == []


@pytest.mark.parametrize("currency", ["usd", "USDT", "", "US", "U$D", "\uff35\uff33\uff24", "USD ", "USD\n", 840])
async def test_a_bad_currency_is_refused(gateway, currency):
    body = new_transaction(amount={"currencyCode": currency, "amountMinor": "1"})
    response = await gateway.request("POST", "/api/v1/transactions", json=body, headers=KEY)
    problem = is_problem(response, 400, "INVALID_FIELD")
    assert problem["errors"][0]["pointer"] == "/amount/currencyCode"


BAD_IDS = [
    "txn_" + "0" * 26,  # an id of another kind
    ESCROW_ACCOUNT.upper(),
    "{" + ESCROW_ACCOUNT + "}",
    "esc_" + "0" * 25,
    "esc_" + "0" * 500,
    "esc_" + "i" * 26,  # no letter of the alphabet in use
    "\u0435sc_" + "0" * 26,  # a Cyrillic lookalike
    ESCROW_ACCOUNT + "\n",
    "\u202e" + ESCROW_ACCOUNT,
    "00000000-0000-0000-0000-000000000000",
]


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_a_bad_id_is_refused_in_the_body_and_in_the_path(gateway, bad):
    response = await gateway.request(
        "POST", "/api/v1/transactions", json=new_transaction(escrowAccountId=bad), headers=KEY
    )
    assert is_problem(response, 400, "INVALID_FIELD")["errors"][0]["pointer"] == "/escrowAccountId"
    encoded = "".join(f"%{byte:02X}" for byte in bad.encode())
    problem = is_problem(await gateway.request("GET", f"/api/v1/escrow-accounts/{encoded}"), 400, "INVALID_FIELD")
    assert problem["errors"][0]["in"] == "path"
    assert gateway.services.calls == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "text/plain"}, b"{}"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b"),
        ({"Content-Type": "application/json; charset=utf-16"}, "{}".encode("utf-16")),
        ({"Content-Type": "application/json, text/plain"}, b"{}"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, gzip.compress(b"{}")),
        ({"Content-Type": "application/json", "Content-Encoding": "br"}, b"{}"),
    ],
)
async def test_a_body_of_another_type_is_refused(gateway, headers, body):
    options = {"content": body, "headers": {**KEY, **headers}}
    response = await gateway.request("POST", "/api/v1/transactions", **options)
    is_problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_a_body_without_a_type_is_refused(gateway):
    request = gateway.client.build_request("POST", "/api/v1/transactions", content=b"{}")
    request.headers["Authorization"] = f"Bearer {token()}"
    is_problem(await gateway.client.send(request), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=UTF-8", "application/json;"])
async def test_json_in_utf8_is_accepted_however_it_is_spelled(gateway, media_type):
    options = {"content": json.dumps(new_transaction()), "headers": {**KEY, "Content-Type": media_type}}
    assert (await gateway.request("POST", "/api/v1/transactions", **options)).status_code == 201


async def chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


@pytest.mark.parametrize("length_known", [True, False])
async def test_a_body_that_is_too_large_is_refused(gateway, length_known):
    content = b" " * (256 * 1024 + 1) if length_known else chunks(64 * 1024, 5)
    options = {"content": content, "headers": {**KEY, **JSON}}
    response = await gateway.request("POST", "/api/v1/transactions", **options)
    is_problem(response, 413, "PAYLOAD_TOO_LARGE")
    assert response.headers["connection"] == "close"


async def test_a_caller_refused_before_its_body_was_read_sees_why_on_a_connection_that_lives_on(gateway):
    for _ in range(3):
        options = {"content": b" " * 250_000, "headers": JSON}
        is_problem(await gateway.request("POST", "/api/v1/transactions", role=None, **options), 401, "UNAUTHENTICATED")


# --- idempotency


@pytest.mark.parametrize("key", ["", "a b", "é", "a" * 256, "a\tb"])
async def test_a_bad_idempotency_key_is_refused_by_its_header(gateway, key):
    headers = [(b"idempotency-key", key.encode("latin-1")), (b"authorization", f"Bearer {token()}".encode())]
    response = await gateway.client.post("/api/v1/transactions", json=new_transaction(), headers=headers)
    problem = is_problem(response, 400, "INVALID_FIELD")
    assert (problem["errors"][0]["in"], problem["errors"][0]["pointer"]) == ("header", "/Idempotency-Key")
    assert "Idempotency-Key" in problem["detail"]


async def test_a_missing_idempotency_key_is_named(gateway):
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction())
    assert "Idempotency-Key is required" in is_problem(response, 400, "INVALID_FIELD")["detail"]


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
        (KeyReused("Another body.", request_id="key-1"), 422),
        (InFlight("Still running.", request_id="key-1"), 409),
        (Poor("Too little.", available_minor=5), 422),
        (errors.NotFound("No such resource."), 404),
        (errors.PermissionDenied("Maker is checker."), 403),
        (errors.Unavailable("Away."), 503),
    ],
)
async def test_a_services_refusal_is_a_problem_with_its_code(gateway, refusal, status):
    gateway.services.answers["CreateTransaction"] = refusal
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY)
    problem = is_problem(response, status, refusal.reason)
    assert problem["detail"] == refusal.message
    assert problem.get("metadata", {}) == refusal.metadata


async def test_the_fields_a_service_refuses_are_placed_in_the_body_and_headers(gateway):
    fields = {"amount.amount_minor": "is over", "request_id": "is odd", "escrow_account_id": "is of another currency"}
    gateway.services.answers["CreateTransaction"] = errors.InvalidField("No.", fields=fields)
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY)
    found = {(error["in"], error["pointer"]) for error in is_problem(response, 400, "INVALID_FIELD")["errors"]}
    assert found == {("body", "/amount/amountMinor"), ("header", "/Idempotency-Key"), ("body", "/escrowAccountId")}


async def test_a_bug_in_a_service_shows_an_id_and_nothing_else(gateway):
    gateway.services.answers["GetTransaction"] = RuntimeError("password=hunter2 at 10.0.0.7")
    response = await gateway.request("GET", TRANSACTION)
    problem = is_problem(response, 500, "INTERNAL")
    assert problem["metadata"]["error_id"].startswith("err_")
    assert "hunter2" not in response.text
    assert "10.0.0.7" not in response.text


# --- webhooks


async def test_a_webhook_passes_byte_for_byte_without_a_token(gateway):
    raw = b'{ "id": "evt_1",\n "id": "evt_1" }\xff'
    gateway.services.answers["ReceiveStripeWebhook"] = webhooks_pb2.ReceiveWebhookResponse(webhook_id="whk_1")
    headers = {"Stripe-Signature": "t=1,v1=aa", "Content-Type": "application/json; charset=utf-8"}
    response = await gateway.request("POST", "/api/v1/webhooks/stripe", role=None, content=raw, headers=headers)
    assert (response.status_code, response.json()) == (200, {"webhookId": "whk_1", "duplicate": False})
    request = gateway.services.calls[0].request
    assert (request.body.data, request.signature) == (raw, "t=1,v1=aa")


async def test_a_webhook_that_is_too_large_is_refused(gateway):
    response = await gateway.request("POST", "/api/v1/webhooks/plaid", role=None, content=b"x" * 2**20)
    is_problem(response, 413, "PAYLOAD_TOO_LARGE")


# --- HTTP itself


@pytest.mark.parametrize("path", ["//api/v1/transactions", "/api/v1/transactions/", "/api/v1/%2e%2e/healthz", "/a%00b"])
async def test_a_path_that_could_be_read_in_two_ways_is_refused(gateway, path):
    answer = await gateway.send_raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


@pytest.mark.parametrize("method", ["TRACE", "PUT", "PATCH", "OPTIONS", "CONNECT", "PROPFIND"])
async def test_a_method_a_path_does_not_take_is_told_which_it_takes(gateway, method):
    answer = await gateway.send_raw(f"{method} /api/v1/transactions HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"allow: GET, HEAD, POST\r\n" in answer.lower().replace(b"get, head, post", b"GET, HEAD, POST")


async def test_an_unknown_path_is_not_found(gateway):
    is_problem(await gateway.request("GET", "/api/v2/transactions"), 404, "NOT_FOUND")


REQUEST_LINE = b"POST /api/v1/webhooks/stripe HTTP/1.1\r\nHost: x\r\n"
BAD_HTTP = {
    "two lengths": REQUEST_LINE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a length and chunks": REQUEST_LINE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an odd transfer encoding": REQUEST_LINE + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a negative length": REQUEST_LINE + b"Content-Length: -1\r\n\r\n",
    "junk for a chunk": REQUEST_LINE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a header over two lines": REQUEST_LINE + b"X: a\r\n b\r\n\x00: c\r\n\r\n",
    "a header name with a space": REQUEST_LINE + b"Content-Length : 2\r\n\r\n{}",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("kind", BAD_HTTP)
async def test_what_is_not_one_plain_request_is_refused(gateway, kind):
    answer = await gateway.send_raw(BAD_HTTP[kind])
    # Where the junk follows headers that are complete, the connection just ends.
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert (await gateway.client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("headers", [b"X: " + b"a" * 65536, b"\r\n".join(b"X%d: a" % n for n in range(10_000))])
async def test_headers_that_are_too_large_are_refused(gateway, headers):
    answer = await gateway.send_raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_headers_that_never_end_end_the_connection(gateway):
    assert await gateway.send_raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n", seconds_max=9) == b""


async def test_a_connection_that_says_nothing_ends(gateway):
    assert await gateway.send_raw(b"", seconds_max=9) == b""


async def test_a_body_that_never_ends_is_a_timeout(gateway):
    answer = await gateway.send_raw(REQUEST_LINE + b"Content-Length: 10\r\n\r\n{", seconds_max=9)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()


async def test_a_kept_connection_serves_one_request_after_another(gateway):
    once = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for _ in range(3):
        writer.write(once)
        assert (await reader.readuntil(b'{"status":"ok"}')).startswith(b"HTTP/1.1 200 ")
    writer.close()


# --- services that come and go


async def test_a_service_that_restarts_costs_a_wait_where_asking_twice_is_safe(tmp_path):
    async with street(tmp_path) as gateway:
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
    async with street(tmp_path) as gateway:
        await gateway.grpc_server.stop(None)
        started = time.monotonic()
        response = await gateway.request("GET", TRANSACTION)
        assert 2 < time.monotonic() - started < 9
        is_problem(response, 503, "UNAVAILABLE")
        assert response.headers["retry-after"] == "1"


async def test_what_may_not_be_asked_twice_is_a_503_at_once(tmp_path):
    async with street(tmp_path) as gateway:
        await gateway.grpc_server.stop(None)
        started = time.monotonic()
        is_problem(await gateway.request("POST", f"{TRANSACTION}/cancel"), 503, "UNAVAILABLE")
        assert time.monotonic() - started < RETURN_SECONDS_MAX


async def test_a_service_that_hangs_is_a_504(tmp_path):
    async with street(tmp_path, request_seconds_max=0.5) as gateway:
        gateway.services.open.clear()
        is_problem(await gateway.request("GET", TRANSACTION), 504, "DEADLINE_EXCEEDED")


# --- limits


def first_refused(answers: list[httpx.Response], allowed: int) -> httpx.Response:
    """The first 429. One more than allowed may pass where a new minute begins between two requests."""
    statuses = [answer.status_code for answer in answers]
    at = statuses.index(429)
    assert at in (allowed, allowed + 1)
    is_problem(answers[at], 429, "RATE_LIMITED")
    return answers[at]


async def test_a_caller_that_asks_too_often_is_told_when_to_come_back(tmp_path):
    async with street(tmp_path, rate_per_principal="3/minute") as gateway:
        answers = [await gateway.request("GET", TRANSACTION) for _ in range(8)]
        other = await gateway.request("GET", TRANSACTION, role="auditor")
    refused = first_refused(answers, 3)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert other.status_code == 200


async def test_an_address_that_asks_too_often_is_refused_before_its_token_is_read(tmp_path):
    async with street(tmp_path, rate_per_address="2/minute") as gateway:
        answers = [await gateway.request("GET", "/nowhere", role=None) for _ in range(6)]
    first_refused(answers, 2)


async def test_guessing_tokens_ends(tmp_path):
    async with street(tmp_path, rate_of_refused_tokens="2/minute") as gateway:
        bad = {"Authorization": "Bearer no"}
        answers = [await gateway.request("GET", TRANSACTION, role=None, headers=bad) for _ in range(6)]
    first_refused(answers, 2)


async def test_more_requests_at_once_than_can_be_served_are_refused_at_once(tmp_path):
    async with street(tmp_path, requests_max=2) as gateway:
        gateway.services.open.clear()
        requests = [asyncio.create_task(gateway.request("GET", TRANSACTION)) for _ in range(6)]
        refused = [await answer for _, answer in zip(range(4), asyncio.as_completed(requests), strict=False)]
        gateway.services.open.set()
        answers = await asyncio.gather(*requests)
    assert [answer.status_code for answer in refused] == [503] * 4
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [503] * 4


# --- the process


async def start_process(**environment: str) -> asyncio.subprocess.Process:
    clean = {"PATH": os.environ["PATH"], "PORT": "0", "DRAIN_WAIT_SECONDS": "0", **environment}
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", env=clean, cwd=ROOT, **pipes)


async def test_the_process_serves_until_it_is_told_to_end(tmp_path):
    jwks = str(write_jwks(tmp_path / "jwks.json"))
    process = await start_process(JWKS=jwks, JWT_ISSUER=ISSUER)
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
    [({}, b"JWKS"), ({"PORT": "x"}, b"PORT"), ({"RATE_PER_ADDRESS": "often"}, b"RATE_PER_ADDRESS")],
)
async def test_the_process_names_the_setting_it_cannot_start_with(environment, named):
    process = await start_process(**environment)
    _, words = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert named in words
    assert b"often" not in words


# --- its own pages


async def test_it_is_ready_when_every_service_is(gateway):
    ready = await gateway.client.get("/readyz")
    assert (ready.status_code, set(ready.json()["services"].values())) == (200, {True})
    gateway.services.serving = False
    is_problem(await gateway.client.get("/readyz"), 503, "UNAVAILABLE")
    assert (await gateway.client.get("/healthz")).status_code == 200


async def test_it_is_not_ready_when_it_is_about_to_end(gateway):
    gateway.stop.set()
    is_problem(await gateway.client.get("/readyz"), 503, "UNAVAILABLE")


async def test_the_docs_run_no_script_but_their_own(gateway):
    first, second = await gateway.client.get("/docs"), await gateway.client.get("/docs")
    policy = first.headers["content-security-policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert first.text.count(f'nonce="{nonce}"') == 2
    assert nonce not in second.text
    assert "http://" not in first.text
    assert "https://" not in first.text


async def test_the_description_is_served(gateway):
    assert (await gateway.client.get("/openapi.json")).json()["openapi"] == "3.1.0"
