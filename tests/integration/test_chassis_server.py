"""What a caller of any service is told: through a real server, a real channel and real tokens."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from realco.escrow.v1 import escrow_accounts_pb2 as pb
from realco.escrow.v1 import escrow_accounts_pb2_grpc

from services.chassis.calls import client
from services.chassis.calls.auth import Principal, acting_as, current_principal
from services.chassis.calls.deadline import remaining_seconds, set_deadline
from services.chassis.calls.sign_in import SessionEnded
from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.runtime import server
from services.chassis.values.errors import DomainError, InvalidField, Kind
from services.chassis.values.refusals import PartyNotFound
from tests.support import chassis
from tests.support.identity import Issuer
from tests.support.seals import SEALS

SERVICE = pb.DESCRIPTOR.services_by_name["EscrowAccountsService"]
ACCOUNT = "esc_" + "0" * 26


class Servicer(escrow_accounts_pb2_grpc.EscrowAccountsServiceServicer):
    """Answers as the test says."""

    def __init__(self) -> None:
        self.answer = None
        self.calls: list[tuple[Principal, float | None]] = []

    async def GetEscrowAccount(self, request, context):
        self.calls.append((current_principal(), remaining_seconds()))
        if isinstance(self.answer, BaseException):
            raise self.answer
        if callable(self.answer):
            return await self.answer(request)
        return pb.EscrowAccount(escrow_account_id=request.escrow_account_id)


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path)


@contextlib.asynccontextmanager
async def served(issuer, servicer, concurrent: int = 100, port: int = 0):
    interceptor = server.Interceptor("escrow", issuer.verifier(), [SERVICE])
    running = server.build(interceptor, concurrent)
    escrow_accounts_pb2_grpc.add_EscrowAccountsServiceServicer_to_server(servicer, running)
    port = running.add_insecure_port(f"127.0.0.1:{port}")
    await running.start()
    try:
        yield f"127.0.0.1:{port}", interceptor
    finally:
        await running.stop(None)


@pytest.fixture
def servicer():
    return Servicer()


@pytest.fixture
async def address(issuer, servicer):
    async with served(issuer, servicer) as (address, _):
        yield address


@pytest.fixture
async def call(issuer, address):
    """`await call()`: the answer, or a status as `(code, reason, details)`."""
    async with aio.insecure_channel(address) as channel:

        async def call(account: str = ACCOUNT, token: str | None = None, timeout: float | None = None, **metadata):
            sent = [(key.replace("_", "-"), value) for key, value in metadata.items()]
            token = issuer.token() if token is None else token
            sent += [("authorization", f"Bearer {token}")] if token else []
            request = pb.GetEscrowAccountRequest(escrow_account_id=account)
            method = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel).GetEscrowAccount
            return await answer_of(method(request, metadata=sent, timeout=timeout))

        yield call


async def answer_of(awaitable):
    try:
        return await awaitable
    except aio.AioRpcError as error:
        return (error.code().name, *_details(error))


def _details(error: aio.AioRpcError) -> tuple[str, dict]:
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if raw is None:
        return "", {}
    status = status_pb2.Status.FromString(raw)
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        _ = detail.Unpack(info) or detail.Unpack(bad) or detail.Unpack(retry)
    found = {"domain": info.domain, "message": status.message, "metadata": dict(info.metadata)}
    found["fields"] = [violation.field for violation in bad.field_violations]
    found["retry"] = retry.HasField("retry_delay")
    return info.reason, found


async def test_a_good_call_is_answered_as_its_caller(call, servicer):
    assert (await call()).escrow_account_id == ACCOUNT
    principal, remaining = servicer.calls[0]
    assert principal == Principal("admin-1", "admin", "org_1")
    assert 9 < remaining <= 10  # none was given


@pytest.mark.parametrize(
    ("token", "metadata", "code"),
    [
        ("", {}, "UNAUTHENTICATED"),
        ("", {"authorization": "Basic eDp5"}, "UNAUTHENTICATED"),
        ("x.y.z", {}, "UNAUTHENTICATED"),
        ({"exp": 1}, {}, "UNAUTHENTICATED"),
        ({"role": "investor", "sub": "inv_1"}, {}, "PERMISSION_DENIED"),
        ({}, {"authorization": "Bearer x"}, "UNAUTHENTICATED"),  # two tokens are none
        ({"sub": "admin-1"}, {"x_realco_org": "org_2", "x_realco_on_behalf_of": "admin-2"}, None),
    ],
)
async def test_the_caller_is_who_the_token_says(call, issuer, servicer, token, metadata, code):
    given = issuer.token(**token) if isinstance(token, dict) else token
    answer = await call(token=given, **metadata)
    if code is None:
        assert servicer.calls[0][0] == Principal("admin-1", "admin", "org_1")
        return
    assert answer[:2] == (code, code)
    assert answer[2]["domain"] == "escrow.realco"
    assert servicer.calls == []


async def test_a_malformed_request_never_reaches_the_handler(call, servicer):
    code, reason, details = await call(account="<script>")
    assert (code, reason, details["fields"]) == ("INVALID_ARGUMENT", "INVALID_FIELD", ["escrow_account_id"])
    assert "script" not in str(details)
    assert servicer.calls == []


@pytest.mark.parametrize("raw", [b"\xff\xff", b"\x0a\x05ab", b"\x7a\x01x"])
async def test_bytes_that_are_no_request_are_the_callers_fault(address, issuer, raw):
    async with aio.insecure_channel(address) as channel:
        method = channel.unary_unary("/realco.escrow.v1.EscrowAccountsService/GetEscrowAccount")
        answer = await answer_of(method(raw, metadata=[("authorization", f"Bearer {issuer.token()}")]))
        assert answer[:2] == ("INVALID_ARGUMENT", "INVALID_FIELD")


async def test_what_is_not_offered_is_unimplemented(address, issuer):
    async with aio.insecure_channel(address) as channel:
        token = [("authorization", f"Bearer {issuer.token()}")]
        stub = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel)
        request = pb.GetEscrowAccountBalanceRequest(escrow_account_id=ACCOUNT)
        assert (await answer_of(stub.GetEscrowAccountBalance(request, metadata=token)))[0] == "UNIMPLEMENTED"
        unknown = channel.unary_unary("/realco.escrow.v1.EscrowAccountsService/Steal")
        assert (await answer_of(unknown(b"", metadata=token)))[0] == "UNIMPLEMENTED"


class Frozen(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "ESCROW_ACCOUNT_FROZEN"


@pytest.mark.parametrize(
    ("raised", "code", "reason", "retry"),
    [
        (Frozen("It is frozen.", escrow_account_id=ACCOUNT), "FAILED_PRECONDITION", "ESCROW_ACCOUNT_FROZEN", False),
        (PartyNotFound(), "NOT_FOUND", "PARTY_NOT_FOUND", False),
        (ConnectionRefusedError("db.internal:5432"), "UNAVAILABLE", "UNAVAILABLE", True),
        (TimeoutError("secret"), "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", False),
        (NotSealed("approvals", "apr_1"), "UNAVAILABLE", "ROW_NOT_SEALED", True),
        (asyncpg.NumericValueOutOfRangeError("secret"), "FAILED_PRECONDITION", "SUM_TOO_LARGE", False),
        (KeyError("secret"), "INTERNAL", "INTERNAL", False),
        (ZeroDivisionError(), "INTERNAL", "INTERNAL", False),
    ],
)
async def test_every_failure_has_one_way_out(call, servicer, raised, code, reason, retry):
    servicer.answer = raised
    found_code, found_reason, details = await call()
    assert (found_code, found_reason, details["retry"]) == (code, reason, retry)
    assert "secret" not in str(details)
    assert "internal:5432" not in str(details)
    assert ("error_id" in details["metadata"]) is (code == "INTERNAL")


async def test_a_database_that_is_away_is_not_our_fault(call, servicer):
    nowhere = Database(*2 * ["postgresql://nobody@127.0.0.1:1/none"], "escrow", SEALS)

    async def ask(request):
        async with nowhere.begin():
            raise AssertionError("there is no database")

    servicer.answer = ask
    assert (await call())[:2] == ("UNAVAILABLE", "UNAVAILABLE")
    await nowhere.dispose()


async def test_time_runs_out_for_the_caller_and_for_the_database_alike(call, servicer, urls):
    async with chassis.opened(urls) as database:
        ended = []

        async def ask(request):
            try:
                async with database.begin() as tx:
                    await tx.driver.execute("SELECT pg_sleep(30)")
            except (asyncpg.PostgresError, asyncio.CancelledError) as error:
                ended.append(error)
                raise

        servicer.answer = ask
        assert (await call(timeout=0.3))[0] == "DEADLINE_EXCEEDED"
        await chassis.until(lambda: ended)
        servicer.answer = None
        assert (await call()).escrow_account_id == ACCOUNT


async def test_more_calls_than_a_server_takes_are_refused_at_once(issuer, servicer):
    may_end = asyncio.Event()

    async def wait(request):
        await may_end.wait()
        return pb.EscrowAccount()

    servicer.answer = wait
    async with (
        served(issuer, servicer, concurrent=4) as (address, interceptor),  # half of them for one peer
        aio.insecure_channel(address) as channel,
    ):
        method = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel).GetEscrowAccount
        request = pb.GetEscrowAccountRequest(escrow_account_id=ACCOUNT)
        token = [("authorization", f"Bearer {issuer.token()}")]
        waiting = [asyncio.ensure_future(answer_of(method(request, metadata=token))) for _ in range(2)]
        await chassis.until(lambda: interceptor.in_flight == 2)
        assert not interceptor.idle.is_set()
        assert (await answer_of(method(request, metadata=token)))[0] == "RESOURCE_EXHAUSTED"
        may_end.set()
        await asyncio.gather(*waiting)
        await chassis.until(interceptor.idle.is_set)


async def test_a_caller_that_leaves_cancels_the_work(call, servicer):
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(request):
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    servicer.answer = wait
    leaving = asyncio.create_task(call())
    await started.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await asyncio.wait_for(cancelled.wait(), 5)


@pytest.fixture
async def peer(issuer, address):
    channel = client.channel(address, issuer.transactions, "escrow")
    yield escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel)
    await channel.close()


REQUEST = pb.GetEscrowAccountRequest(escrow_account_id=ACCOUNT)


async def test_a_service_calls_with_its_own_token_for_its_caller(peer, servicer):
    with acting_as(chassis.ADMIN):
        await peer.GetEscrowAccount(REQUEST)
    assert servicer.calls[0][0] == Principal("service:transactions", "service", "org_1", "admin-1")


async def test_a_service_at_its_own_work_speaks_for_nobody(peer, servicer):
    with acting_as(Principal("service:transactions", "service", "org_1")):
        await peer.GetEscrowAccount(REQUEST)
    assert servicer.calls[0][0] == Principal("service:transactions", "service", "org_1", None)


@pytest.mark.parametrize("org_id", [None, "*"])
async def test_a_service_without_an_organization_is_refused(peer, servicer, org_id):
    acting = acting_as(Principal("service:transactions", "service", org_id)) if org_id else contextlib.nullcontext()
    with acting:
        assert (await answer_of(peer.GetEscrowAccount(REQUEST)))[0] == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("left", "asked", "least", "most"),
    [(None, None, 4.5, 5), (2, None, 1.3, 1.8), (60, None, 4.5, 5), (60, 1, 0.5, 1)],
)
async def test_a_peer_has_less_time_than_our_own_caller_left_us(peer, servicer, left, asked, least, most):
    async def call():
        if left is not None:
            set_deadline(left)
        with acting_as(chassis.ADMIN):
            await peer.GetEscrowAccount(REQUEST, timeout=asked)

    await asyncio.create_task(call())
    # gRPC sends the time left in whole units, rounded up.
    assert least < servicer.calls[0][1] <= most + 0.05


async def test_a_peer_that_takes_no_request_of_ours_is_our_bug_and_not_our_callers_fault(call, peer, servicer):
    async def pass_on(request):
        servicer.answer = InvalidField("No.", fields={"party_id": "is missing"})
        return await peer.GetEscrowAccount(request)

    servicer.answer = pass_on
    code, reason, details = await call()
    assert (code, reason, details["fields"]) == ("INTERNAL", "INTERNAL", [])


async def test_a_peers_refusal_passes_through_to_our_caller_as_it_was(call, peer, servicer):
    async def ask(request):
        servicer.answer = Frozen("It is frozen.", escrow_account_id=ACCOUNT)
        return await peer.GetEscrowAccount(request)

    servicer.answer = ask
    code, reason, details = await call()
    assert (code, reason) == ("FAILED_PRECONDITION", "ESCROW_ACCOUNT_FROZEN")
    assert details["metadata"] == {"escrow_account_id": ACCOUNT}


async def test_a_peer_that_knows_our_callers_session_ended_tells_our_caller(call, peer, servicer):
    async def ask(request):
        servicer.answer = SessionEnded("Sign in again.")
        return await peer.GetEscrowAccount(request)

    servicer.answer = ask
    assert (await call())[:2] == ("UNAUTHENTICATED", "SESSION_ENDED")


async def test_a_peer_that_is_away_makes_us_unavailable_not_broken(call, issuer, servicer):
    channel = client.channel("127.0.0.1:1", issuer.transactions, "escrow")

    async def ask(request):
        return await escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel).GetEscrowAccount(request)

    servicer.answer = ask
    assert (await call())[0] == "UNAVAILABLE"
    await channel.close()


async def test_a_peer_that_restarts_is_waited_for_where_asking_twice_has_no_second_effect(issuer, servicer):
    async with served(issuer, servicer) as (address, _):
        pass  # its port is free again
    channel = client.channel(address, issuer.transactions, "escrow")
    peer = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel)
    with acting_as(chassis.ADMIN):
        reading = asyncio.ensure_future(peer.GetEscrowAccount(REQUEST))
        writing = asyncio.ensure_future(peer.FreezeEscrowAccount(pb.FreezeEscrowAccountRequest(note="no key")))
        assert (await answer_of(writing))[0] == "UNAVAILABLE"
    async with served(issuer, servicer, port=int(address.rpartition(":")[2])):
        assert (await reading).escrow_account_id == ACCOUNT
    await channel.close()


async def test_a_peer_that_says_it_cannot_answer_has_tried_already(peer, servicer):
    servicer.answer = ConnectionResetError()
    with acting_as(chassis.ADMIN):
        assert (await answer_of(peer.GetEscrowAccount(REQUEST)))[0] == "UNAVAILABLE"
    assert len(servicer.calls) == 1


async def test_the_trace_goes_on_from_service_to_service(peer, servicer, issuer):
    traces = []

    async def ask(request):
        from services.chassis.process import telemetry

        traces.append((telemetry.current_traceparent(), telemetry.current_request_id()))
        if len(traces) == 1:
            return await peer.GetEscrowAccount(request)
        return pb.EscrowAccount()

    servicer.answer = ask
    with acting_as(chassis.ADMIN):
        await peer.GetEscrowAccount(REQUEST)
    (first, first_id), (second, second_id) = traces
    assert first.split("-")[1] == second.split("-")[1]
    assert first.split("-")[2] != second.split("-")[2]
    assert first_id == second_id


def test_a_code_has_its_name():
    assert {kind.value for kind in Kind} <= {code.name for code in grpc.StatusCode}
