"""Both ends of a connection show a certificate, and a service's token is good over its own connections alone."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from grpc import aio
from realco.escrow.v1 import escrow_accounts_pb2 as pb
from realco.escrow.v1 import escrow_accounts_pb2_grpc

from services.chassis.calls import client
from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.calls.certificates import Certificates
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.runtime import server
from services.chassis.values.text import connection_name
from tests.support import chassis
from tests.support.certificates import Files, make_authority, show
from tests.support.identity import Issuer

SERVICE = pb.DESCRIPTOR.services_by_name["EscrowAccountsService"]
REQUEST = pb.GetEscrowAccountRequest(escrow_account_id="esc_" + "0" * 26)
OURS, THEIRS = make_authority(), make_authority()


class Servicer(escrow_accounts_pb2_grpc.EscrowAccountsServiceServicer):
    """Remembers over which connections it was called, and what was shown there."""

    def __init__(self) -> None:
        self.connections: set[str] = set()
        self.shown: list[bytes] = []

    async def GetEscrowAccount(self, request, context):
        self.connections.add(context.peer())
        self.shown += [each for each in context.auth_context()["x509_pem_cert"] if each not in self.shown]
        return pb.EscrowAccount()


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path)


@pytest.fixture
def servicer():
    return Servicer()


@contextlib.asynccontextmanager
async def served(issuer, servicer, certificates, connection_seconds=60.0):
    running = server.build(server.Interceptor("escrow", issuer.verifier(), [SERVICE]), 100, connection_seconds)
    escrow_accounts_pb2_grpc.add_EscrowAccountsServiceServicer_to_server(servicer, running)
    port = server.bind(running, "127.0.0.1:0", certificates)
    await running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await running.stop(None)


async def call(address, credentials, token="", org_id=""):
    """The name of the status."""
    options = [("grpc.default_authority", connection_name("escrow"))]
    encrypted = credentials and aio.secure_channel(address, credentials, options)
    metadata = [("authorization", f"Bearer {token}")] * bool(token) + [("x-realco-org", org_id)] * bool(org_id)
    async with encrypted or aio.insecure_channel(address) as channel:
        method = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel).GetEscrowAccount
        try:
            await method(REQUEST, metadata=metadata, timeout=5)
        except aio.AioRpcError as error:
            return error.code().name
    return "OK"


ANONYMOUS = grpc.ssl_channel_credentials(OURS.make_certificate().encode())


@pytest.mark.parametrize(
    ("process", "authority", "days", "token", "verdict"),
    [
        ("transactions", OURS, 1, "transactions", "OK"),
        ("gateway", OURS, 1, "person", "OK"),
        ("distributions", OURS, 1, "transactions", "UNAUTHENTICATED"),  # a stolen key, and a certificate of one's own
        ("gateway", OURS, 1, "transactions", "UNAUTHENTICATED"),
        ("transactions", OURS, 1, "", "UNAUTHENTICATED"),  # a stolen certificate without the key
        ("transactions", THEIRS, 1, "transactions", "UNAVAILABLE"),  # no connection at all
        ("transactions", OURS, -1, "transactions", "UNAVAILABLE"),
        ("anonymous", None, 1, "transactions", "UNAVAILABLE"),
        ("plain", None, 1, "person", "UNAVAILABLE"),
    ],
    ids=lambda value: "" if value is None else {id(OURS): "ours", id(THEIRS): "theirs"}.get(id(value)),
)
async def test_who_gets_in_has_a_connection_and_a_token_that_go_together(
    tmp_path, issuer, servicer, process, authority, days, token, verdict
):
    without = {"anonymous": ANONYMOUS, "plain": None}
    credentials = show(process, authority, OURS, days).to_channel() if authority else without[process]
    tokens = {"transactions": issuer.transactions.token("escrow"), "person": issuer.token(), "": ""}
    async with served(issuer, servicer, Files(tmp_path, "escrow", OURS).load()) as address:
        org_id = "org_1" if token == "transactions" else ""
        assert await call(address, credentials, tokens[token], org_id) == verdict
    assert bool(servicer.connections) == (verdict == "OK")


@pytest.mark.parametrize(("answering", "authority"), [("compliance", OURS), ("escrow", THEIRS)], ids=["name", "ca"])
async def test_a_caller_tells_nothing_to_whoever_is_not_the_service_it_means(
    tmp_path, issuer, servicer, answering, authority
):
    impostor, caller = Files(tmp_path / "far", answering, authority), Files(tmp_path, "transactions", OURS)
    impostor.believe(OURS)
    async with served(issuer, servicer, impostor.load()) as address:
        channel = client.channel(address, issuer.transactions, "escrow", caller.load())
        freeze = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel).FreezeEscrowAccount
        with acting_as(chassis.ADMIN), pytest.raises(aio.AioRpcError) as refused:
            await freeze(pb.FreezeEscrowAccountRequest(note="no key, so it is sent once"))
        await channel.close()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert servicer.connections == set()


async def test_certificates_and_their_authority_are_renewed_under_load_and_no_call_is_refused(
    tmp_path, issuer, servicer
):
    escrow, transactions = (Files(tmp_path, name, OURS) for name in ("escrow", "transactions"))
    async with served(issuer, servicer, escrow.load(), connection_seconds=0.1) as address:
        channel = client.channel(address, issuer.transactions, "escrow", transactions.load())
        stub = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel)

        async def keep_calling():
            with acting_as(service_principal("transactions", "org_1")):
                while True:
                    await stub.GetEscrowAccount(REQUEST)

        load = [asyncio.create_task(keep_calling()) for _ in range(8)]

        async def until_connected_anew():
            """Until all calls go over connections that were made after now."""
            before = set(servicer.connections)
            await chassis.until(lambda: len(servicer.connections - before) >= 2)

        await until_connected_anew()
        first = show("transactions", OURS, THEIRS)
        for files in (escrow, transactions):
            files.believe(OURS, THEIRS)
        await until_connected_anew()
        for files in (escrow, transactions):
            files.renew(THEIRS)
        await until_connected_anew()
        for files in (escrow, transactions):
            files.believe(THEIRS)
        await until_connected_anew()
        assert [task for task in load if task.done()] == []
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
        await channel.close()
        assert len(servicer.shown) == 2
        token = issuer.transactions.token("escrow")
        assert await call(address, first.to_channel(), token, "org_1") == "UNAVAILABLE"


def test_a_renewal_that_is_not_good_changes_nothing_until_it_is(tmp_path):
    files = Files(tmp_path, "escrow", OURS)
    certificates = files.load()
    first = certificates.current()
    good = files.certificate.read_bytes()
    for bad in (
        b"",
        b"no PEM",
        OURS.issue("compliance").certificate.encode(),
        OURS.issue("escrow").certificate.encode(),
    ):
        files.certificate.write_bytes(bad)
        assert certificates.current() is first
    files.certificate.unlink()
    assert certificates.current() is first
    files.certificate.write_bytes(good)
    assert certificates.current() == first
    files.renew()
    assert certificates.current() != first


GOOD = {"tls_certificate_file", "tls_key_file", "tls_ca_file"}


@pytest.mark.parametrize(
    ("given", "settings", "fault"),
    [
        (set(), {}, None),
        (set(), {"bind_host": "::1"}, None),
        (set(), {"bind_host": "0.0.0.0"}, "nothing goes unencrypted to or from 0.0.0.0; .*TLS_LEFT_TO_MESH"),
        (set(), {"bind_host": "0.0.0.0", "environment": "local"}, "nothing goes unencrypted"),
        (set(), {"bind_host": "0.0.0.0", "tls_left_to_mesh": True}, None),
        (GOOD, {"bind_host": "0.0.0.0"}, None),
        (GOOD, {"tls_left_to_mesh": True}, "set one of both"),
        (GOOD - {"tls_key_file"}, {"tls_left_to_mesh": True}, "missing: TLS_KEY_FILE"),
        ({"tls_ca_file"}, {}, "missing: TLS_CERTIFICATE_FILE, TLS_KEY_FILE"),
    ],
)
def test_a_process_is_not_to_be_listened_to(tmp_path, given, settings, fault):
    files = Files(tmp_path, "escrow", OURS).settings()
    chosen = Settings(**{name: getattr(files, name) for name in given}, **settings)
    if fault is None:
        assert (Certificates.load("escrow", chosen) is not None) == (given == GOOD)
        return
    with pytest.raises(ConfigurationError, match=fault):
        Certificates.load("escrow", chosen)


def test_a_gateway_on_loopback_calls_no_other_machine_unencrypted():
    assert Certificates.load("gateway", Settings(), ["127.0.0.1:1", "[::1]:1", "localhost:1"]) is None
    with pytest.raises(ConfigurationError, match=r"from escrow\.prod"):
        Certificates.load("gateway", Settings(), ["127.0.0.1:1", "escrow.prod:1"])


def test_only_a_good_certificate_of_its_own_lets_a_process_start(tmp_path):
    def fault_of(name="escrow"):
        with pytest.raises(ConfigurationError) as fault:
            Certificates.load(name, files.settings())
        return str(fault.value)

    files = Files(tmp_path, "escrow", OURS)
    assert "does not name gateway.realco.internal" in fault_of("gateway")
    files.key.chmod(0o644)
    assert "readable by every user" in fault_of()
    files.key.chmod(0o600)
    key = files.key.read_text()
    files.key.write_text(THEIRS.issue("escrow").key)
    assert "is not the key of TLS_CERTIFICATE_FILE" in fault_of()
    files.key.write_text("no PEM")
    assert "must hold PEM" in fault_of()
    files.key.write_text(key)
    files.ca.write_text("")
    assert "must hold PEM" in fault_of()
    files.ca.unlink()
    assert "ca.crt: No such file" in fault_of()
    files.believe(OURS)
    past = show("escrow", OURS, OURS, days=-1)
    files.certificate.write_bytes(past.certificates)
    files.key.write_bytes(past.key)
    assert "expired at" in fault_of()
