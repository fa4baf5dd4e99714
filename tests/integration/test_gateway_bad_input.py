"""Every bad input is refused at the gateway by its name, and reaches no service."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest

from tests.support.gateway import (
    ESCROW_ACCOUNT,
    JSON,
    KEY,
    is_problem,
    new_transaction,
    token,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


@pytest.mark.parametrize(
    ("texts", "pointer"),
    [
        ({"description": "Card 4111 1111 1111 1111"}, "/description"),
        ({"externalId": "4111111111111111"}, "/externalId"),
        ({"metadata": {"card": "4111-1111-1111-1111"}}, "/metadata"),
        ({"metadata": {"4111111111111111": "card"}}, "/metadata"),
    ],
)
async def test_a_card_number_is_refused_where_it_stands_and_not_repeated(gateway, texts, pointer):
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(**texts), headers=KEY)
    [error] = is_problem(response, 400, "INVALID_FIELD")["errors"]
    assert error["pointer"].startswith(pointer)
    assert "4111" not in response.text
    assert gateway.services.calls == []


BAD_IDS = [
    "txn_" + "0" * 26,  # an id of another kind
    ESCROW_ACCOUNT.upper(),
    "{" + ESCROW_ACCOUNT + "}",
    "esc_",
    "esc_" + "0" * 500,
    "esc_" + "é" * 26,
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
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, gzip.compress(b"{}", mtime=0)),
        ({"Content-Type": "application/json", "Content-Encoding": "br"}, b"{}"),
    ],
)
async def test_a_body_of_another_type_is_refused(gateway, headers, body):
    options = {"content": body, "headers": {**KEY, **headers}}
    response = await gateway.request("POST", "/api/v1/transactions", **options)
    problem = is_problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert response.headers["accept"] == "application/json"
    assert problem["detail"].endswith(": application/json.")


async def test_a_body_without_a_type_is_refused(gateway):
    request = gateway.client.build_request("POST", "/api/v1/transactions", content=b"{}")
    request.headers["Authorization"] = f"Bearer {token()}"
    is_problem(await gateway.client.send(request), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=UTF-8", "application/json;"])
async def test_json_in_utf8_is_accepted_however_it_is_spelled(gateway, media_type):
    options = {"content": json.dumps(new_transaction()), "headers": {**KEY, "Content-Type": media_type}}
    assert (await gateway.request("POST", "/api/v1/transactions", **options)).status_code == 201


@pytest.mark.parametrize("method", ["PATCH", "POST"])
async def test_a_merge_patch_is_refused_since_metadata_would_not_be_merged(gateway, method):
    path = f"/api/v1/bank-accounts/ba_{'0' * 26}" if method == "PATCH" else "/api/v1/transactions"
    body = {"externalId": None} if method == "PATCH" else new_transaction()
    headers = {**KEY, "If-Match": '"e"', "Content-Type": "application/merge-patch+json"}
    response = await gateway.request(method, path, content=json.dumps(body), headers=headers)
    assert response.status_code == 415, response.text


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


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_caller_that_sends_10_mb_before_it_reads_sees_why_it_was_refused(gateway, chunked):
    body = b" " * 10_000_000
    framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % len(body)
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = b"POST /api/v1/webhooks/stripe HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n"
    answer = await gateway.send_raw(head + sent)
    assert answer.startswith(b"HTTP/1.1 413 ")


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
