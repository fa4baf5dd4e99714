"""Who begins requests and does not go on with them keeps nobody out of a gateway."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from tests.support.chassis import until
from tests.support.gateway import JSON, KEY, TRANSACTION, new_transaction, run_gateway, token

REQUESTS_MAX = 5
WEBHOOK = b"POST /api/v1/webhooks/stripe HTTP/1.1\r\nHost: x\r\nStripe-Signature: t=1,v1=aa\r\n"


def of_a_person(number: int) -> bytes:
    bearer = (
        f"Authorization: Bearer {token('investor')}\r\nIdempotency-Key: k{number}\r\nContent-Type: application/json"
    )
    return f"POST /api/v1/transactions HTTP/1.1\r\nHost: x\r\n{bearer}\r\n".encode()


@pytest.mark.parametrize("begin", [lambda number: WEBHOOK, of_a_person], ids=["nobody", "a person"])
async def test_bodies_that_do_not_come_keep_nobody_out_and_who_owes_them_is_told(tmp_path, begin):
    async with run_gateway(tmp_path, requests_max=REQUESTS_MAX) as gateway, AsyncExitStack() as stack:
        with capture_logs() as logged:
            readers = []
            for number in range(4 * REQUESTS_MAX):
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                stack.callback(writer.close)
                writer.write(begin(number) + b"Content-Length: 1000\r\n\r\n{")
                readers.append(reader)
            await until(lambda: any(line["event"] == "bodies_given_up" for line in logged))
            answers = [await gateway.request("GET", path) for path in (TRANSACTION, "/healthz", "/readyz")]
            made = await gateway.request(
                "POST", "/api/v1/transactions", headers={**KEY, **JSON}, json=new_transaction()
            )
            assert [answer.status_code for answer in (*answers, made)] == [200, 200, 200, 201]
            given_up = await asyncio.wait_for(readers[0].read(100), 5)
        told = [line for line in logged if line["event"] == "bodies_given_up"]
    assert given_up.startswith(b"HTTP/1.1 408 ")
    assert [line["address"] for line in told] == ["127.0.0.1"]


async def test_a_gateway_says_that_it_runs_however_many_requests_are_under_way(tmp_path):
    async with run_gateway(tmp_path, requests_max=2) as gateway:
        gateway.services.open.clear()
        requests = [asyncio.create_task(gateway.request("GET", TRANSACTION)) for _ in range(2)]
        await until(lambda: len(gateway.services.calls) == 2)
        statuses = [(await gateway.request("GET", path)).status_code for path in (TRANSACTION, "/healthz")]
        gateway.services.open.set()
        await asyncio.gather(*requests)
    assert statuses == [503, 200]
