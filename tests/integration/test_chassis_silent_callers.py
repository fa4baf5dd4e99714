"""Callers that begin calls and say nothing: none of them keeps the others out, whoever they are."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from realco.escrow.v1 import escrow_accounts_pb2 as pb
from realco.escrow.v1 import escrow_accounts_pb2_grpc

from services.chassis.runtime import infrastructure, server
from tests.integration.test_chassis_server import ACCOUNT, SERVICE, Servicer, answer_of
from tests.support.identity import Issuer

UNARY = "/realco.escrow.v1.EscrowAccountsService/GetEscrowAccount"
CONCURRENT = 40


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path)


@pytest.fixture
async def channel(issuer):
    """To a server that answers CONCURRENT calls at once."""
    running = server.build(server.Interceptor("escrow", issuer.verifier(), [SERVICE]), CONCURRENT)
    escrow_accounts_pb2_grpc.add_EscrowAccountsServiceServicer_to_server(Servicer(), running)
    told = health.aio.HealthServicer()
    await told.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(told, running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await running.stop(None)


@pytest.fixture
def ask(channel, issuer):
    """Asks as an admin; the answer, or a status."""

    async def ask():
        metadata = [("authorization", f"Bearer {issuer.token()}")]
        request = pb.GetEscrowAccountRequest(escrow_account_id=ACCOUNT)
        stub = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel)
        return await answer_of(stub.GetEscrowAccount(request, metadata=metadata))

    return ask


@contextlib.asynccontextmanager
async def silent(channel, method, count, token=""):
    """So many calls under way whose message does not come; `ended()`: with which codes those ended that did."""
    never = asyncio.Event()

    async def say_nothing():
        await never.wait()
        yield b""

    metadata = [("authorization", f"Bearer {token}")] if token else []
    calls = [channel.stream_unary(method)(say_nothing(), metadata=metadata) for _ in range(count)]
    waiting = [asyncio.ensure_future(answer_of(call)) for call in calls]

    async def ended():
        answers = await asyncio.wait_for(asyncio.gather(*waiting), 10)
        return {each[0] for each in answers}

    try:
        yield ended
    finally:
        never.set()
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_shows_no_token_is_refused_before_a_message_has_come(channel, ask):
    async with silent(channel, UNARY, 2 * CONCURRENT) as ended:
        assert await ended() <= {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}
        assert (await ask()).escrow_account_id == ACCOUNT


@pytest.mark.parametrize("method", [UNARY, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"])
async def test_for_a_message_nobody_waits_long(channel, ask, issuer, monkeypatch, method):
    monkeypatch.setattr(infrastructure, "MESSAGE_SECONDS", 0.3)
    async with silent(channel, method, CONCURRENT // 4, token=issuer.token()) as ended:
        assert await ended() == {"DEADLINE_EXCEEDED"}
        assert (await ask()).escrow_account_id == ACCOUNT


async def test_streams_about_nobody_leave_room_for_calls(channel, ask):
    async def watch():
        request = health_pb2.HealthCheckRequest()
        call = health_pb2_grpc.HealthStub(channel).Watch(request)
        return await answer_of(anext(aiter(call)))

    watching = [asyncio.ensure_future(watch()) for _ in range(CONCURRENT)]
    answers = await asyncio.gather(*watching)
    refused = [each for each in answers if isinstance(each, tuple)]
    assert {each[0] for each in refused} == {"RESOURCE_EXHAUSTED"}
    assert (await ask()).escrow_account_id == ACCOUNT
