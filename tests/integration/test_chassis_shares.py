"""One peer holds no more of a server's calls than its share: the others are answered all the time."""

from __future__ import annotations

import asyncio
from functools import partial

import grpc
import pytest
import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from realco.escrow.v1 import escrow_accounts_pb2 as pb
from realco.escrow.v1 import escrow_accounts_pb2_grpc

from services.chassis.runtime import infrastructure, server
from services.chassis.values.text import connection_name
from tests.integration.test_chassis_server import ACCOUNT, SERVICE, Servicer, answer_of
from tests.support import chassis
from tests.support.certificates import Files, make_authority, show
from tests.support.identity import Issuer
from tests.support.raw_calls import raw_peer

OURS = make_authority()
UNARY, HEALTH = "realco.escrow.v1.EscrowAccountsService/GetEscrowAccount", "grpc.health.v1.Health/Check"
REQUEST = pb.GetEscrowAccountRequest(escrow_account_id=ACCOUNT)
CONCURRENT = 40
# Of a certificate that no contract names: of an outside service, say.
SHARE = CONCURRENT // 8


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path)


@pytest.fixture
def servicer():
    return Servicer()


@pytest.fixture
async def address(tmp_path, issuer, servicer):
    running = server.build(server.Interceptor("escrow", issuer.verifier(), [SERVICE]), CONCURRENT)
    escrow_accounts_pb2_grpc.add_EscrowAccountsServiceServicer_to_server(servicer, running)
    told = health.aio.HealthServicer()
    await told.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(told, running)
    port = server.bind(running, "127.0.0.1:0", Files(tmp_path, "escrow", OURS).load())
    await running.start()
    yield f"127.0.0.1:{port}"
    await running.stop(None)


@pytest.fixture
def channel(address):
    """Opens one of a process, with its certificate."""

    def channel(process):
        options = [("grpc.default_authority", connection_name("escrow")), ("grpc.use_local_subchannel_pool", 1)]
        return aio.secure_channel(address, show(process, OURS, OURS).to_channel(), options)

    return channel


@pytest.fixture
def unread(address, tmp_path):
    """A connection of the process `client`, which no contract names, that takes no answer."""
    return partial(raw_peer, address, "escrow", show("client", OURS, OURS), tmp_path)


@pytest.fixture
async def ask(channel, issuer):
    """What the gateway gets when it asks so often at once: accounts, or statuses."""
    async with channel("gateway") as opened:
        method = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(opened).GetEscrowAccount

        async def ask(count=1):
            metadata = [("authorization", f"Bearer {issuer.token()}")]
            answers = await asyncio.gather(*[answer_of(method(REQUEST, metadata=metadata)) for _ in range(count)])
            return {each[0] if isinstance(each, tuple) else each.escrow_account_id for each in answers}

        yield ask


async def test_answers_that_nobody_reads_leave_room_for_the_calls_of_others(unread, ask):
    async with unread() as peer:
        await peer.ask("escrow", HEALTH, 2 * CONCURRENT)
        await chassis.until(lambda: peer.seen["ended"] == 2 * CONCURRENT - SHARE)
        for _ in range(5):
            assert await ask(CONCURRENT // 3) == {ACCOUNT}
        assert peer.seen == {"begun": SHARE, "ended": 2 * CONCURRENT - SHARE}


@pytest.mark.parametrize("method", [UNARY, HEALTH])
async def test_calls_whose_message_never_comes_leave_room_for_those_of_others(
    channel, issuer, ask, monkeypatch, method
):
    monkeypatch.setattr(infrastructure, "MESSAGE_SECONDS", 0.3)
    metadata = [("authorization", f"Bearer {issuer.token()}")]
    never, codes = asyncio.Event(), []

    async def say_nothing():
        await never.wait()
        yield b""

    async def renew(opened):
        while True:
            code, *_ = await answer_of(opened.stream_unary(f"/{method}")(say_nothing(), metadata=metadata))
            codes.append(code)
            await asyncio.sleep(0.01)  # so that the machine has time for the others, too

    async with channel("client") as opened:
        silent = [asyncio.create_task(renew(opened)) for _ in range(2 * CONCURRENT)]
        await chassis.until(lambda: len(codes) > 2 * CONCURRENT)
        while codes.count("DEADLINE_EXCEEDED") < 3 * SHARE:  # each was renewed
            assert await ask(CONCURRENT // 3) == {ACCOUNT}
        for each in silent:
            each.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
    assert set(codes) == {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}


async def test_who_is_above_its_share_is_told_what_to_do_and_the_log_names_it_once(unread, channel):
    counted = {"peer": "client.realco.internal"}
    before = REGISTRY.get_sample_value("realco_rpcs_above_share_total", counted) or 0
    async with unread() as peer, channel("client") as opened:
        with structlog.testing.capture_logs() as lines:
            await peer.ask("escrow", HEALTH, SHARE)
            await chassis.until(lambda: peer.seen["begun"] == SHARE)
            check = health_pb2_grpc.HealthStub(opened).Check
            for _ in range(3):
                with pytest.raises(aio.AioRpcError, match="read the answers, or end the calls, and ask again") as told:
                    await check(health_pb2.HealthCheckRequest())
                assert told.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert b"RATE_LIMITED" in dict(told.value.trailing_metadata())["grpc-status-details-bin"]
    assert [line for line in lines if line["event"] == "calls_above_share"] == [
        {
            "event": "calls_above_share",
            "log_level": "warning",
            "peer": "client.realco.internal",
            "rpc": HEALTH,
            "under_way": SHARE,
            "free": CONCURRENT - SHARE,
        }
    ]
    assert REGISTRY.get_sample_value("realco_rpcs_above_share_total", counted) == before + 3


async def answered(stub, _servicer, metadata):
    await stub.GetEscrowAccount(REQUEST, metadata=metadata)


async def refused(stub, _servicer, _metadata):
    await answer_of(stub.GetEscrowAccount(REQUEST))


async def failed(stub, servicer, metadata):
    servicer.answer = RuntimeError("a bug")
    await answer_of(stub.GetEscrowAccount(REQUEST, metadata=metadata))


async def left_by_the_caller(stub, servicer, metadata):
    begun = asyncio.Event()

    async def wait(_request):
        begun.set()
        await asyncio.Event().wait()

    servicer.answer = wait
    call = stub.GetEscrowAccount(REQUEST, metadata=metadata)
    await asyncio.wait_for(begun.wait(), 10)
    call.cancel()


async def out_of_time(stub, servicer, metadata):
    async def wait(_request):
        await asyncio.Event().wait()

    servicer.answer = wait
    await answer_of(stub.GetEscrowAccount(REQUEST, metadata=metadata, timeout=0.1))


@pytest.mark.parametrize("end", [answered, refused, failed, left_by_the_caller, out_of_time])
async def test_however_a_call_ends_it_is_counted_no_more(unread, channel, issuer, servicer, end):
    metadata = [("authorization", f"Bearer {issuer.token()}")]
    async with channel("client") as opened:
        for _ in range(2 * SHARE):
            await end(escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(opened), servicer, metadata)
    await check_that_nothing_is_held(unread)


async def test_a_connection_that_ends_gives_back_what_it_held(unread):
    for _ in range(3):
        await check_that_nothing_is_held(unread)


async def check_that_nothing_is_held(unread):
    """A connection can hold the whole share, and no more; gRPC may need a moment to be done with what was before."""
    async with unread() as peer:

        async def hold_one_more():
            await peer.ask("escrow", HEALTH, 1)
            await chassis.until(peer.is_answered)
            return peer.seen["begun"] == SHARE

        await chassis.until(hold_one_more)
        await peer.ask("escrow", HEALTH, CONCURRENT)
        await chassis.until(peer.is_answered)
        assert peer.seen["begun"] == SHARE
