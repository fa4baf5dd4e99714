"""Another internal service of the company, `reporting`, may list ledger entries and nothing else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc import aio
from joserfc.jwk import ECKey
from realco.escrow.v1 import journal_pb2 as pb
from realco.escrow.v1 import journal_pb2_grpc

from services.chassis.calls.access import rules_of
from services.chassis.calls.auth import current_principal
from services.chassis.calls.grants import merge_grants, read_grants
from services.chassis.calls.tokens import ServiceIdentity
from services.chassis.process.settings import ConfigurationError
from services.chassis.runtime import server
from tests.support.certificates import Files, make_authority, show
from tests.support.identity import Issuer

SERVICE = pb.DESCRIPTOR.services_by_name["JournalService"]
ACCOUNT = "esc_" + "0" * 26
GRANT = {"reporting": ["realco.escrow.v1.JournalService/ListLedgerEntries"]}


class Servicer(journal_pb2_grpc.JournalServiceServicer):
    """Answers everything: who may ask is decided before."""

    async def ListLedgerEntries(self, request, context):
        assert current_principal().service == "reporting"
        return pb.ListLedgerEntriesResponse()


def write_grants(tmp_path, document):
    path = tmp_path / "grants.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@contextlib.asynccontextmanager
async def served(tmp_path, grants) -> AsyncIterator[tuple[journal_pb2_grpc.JournalServiceStub, ServiceIdentity]]:
    """A service with these grants, and the stub and identity of `reporting`: its public key is in SERVICE_JWKS, and the
    CA that the service believes issued its certificate.
    """
    issuer, reporting = Issuer(tmp_path), ServiceIdentity("reporting", ECKey.generate_key("P-256"))
    issuer.admit(reporting)
    interceptor = server.Interceptor("escrow", issuer.verifier(), [SERVICE], grants=grants)
    running = server.build(interceptor, 10)
    journal_pb2_grpc.add_JournalServiceServicer_to_server(Servicer(), running)
    authority = make_authority()
    port = server.bind(running, "127.0.0.1:0", Files(tmp_path, "escrow", authority).load())
    await running.start()
    credentials = show("reporting", authority, authority).to_channel()
    options = [("grpc.default_authority", "escrow.realco.internal")]
    async with aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield journal_pb2_grpc.JournalServiceStub(channel), reporting
    await running.stop(None)


def metadata_of(identity, org_id="org_1"):
    return (("authorization", f"Bearer {identity.token('escrow')}"), ("x-realco-org", org_id))


async def test_a_service_calls_what_it_was_granted_and_nothing_else(tmp_path):
    async with served(tmp_path, read_grants(write_grants(tmp_path, GRANT))) as (stub, reporting):
        request = pb.ListLedgerEntriesRequest(escrow_account_id=ACCOUNT)
        await stub.ListLedgerEntries(request, metadata=metadata_of(reporting))
        for method in SERVICE.methods:
            if method.name != "ListLedgerEntries":
                with pytest.raises(aio.AioRpcError) as refused:
                    await getattr(stub, method.name)(b"", metadata=metadata_of(reporting))
                assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED, method.name


async def test_without_a_grant_a_known_key_opens_nothing(tmp_path):
    async with served(tmp_path, {}) as (stub, reporting):
        request = pb.ListLedgerEntriesRequest(escrow_account_id=ACCOUNT)
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.ListLedgerEntries(request, metadata=metadata_of(reporting))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ("{", "Invalid JSON"),
        ([], "Input should be an object"),
        ({"reporting": "all"}, "reporting: Input should be a valid array"),
        ({"Reporting!": []}, "String should match pattern"),
        ({"reporting": ["*"]}, "reporting.0: String should match pattern"),
        ({"reporting": [7]}, "reporting.0: Input should be a valid string"),
    ],
)
def test_a_file_that_says_something_else_keeps_the_service_from_starting(tmp_path, document, fault):
    with pytest.raises(ConfigurationError, match=fault):
        read_grants(write_grants(tmp_path, document))


def test_a_file_that_is_not_there_keeps_the_service_from_starting(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        read_grants(tmp_path / "nowhere.json")
    assert read_grants(None) == {}


def test_an_rpc_that_does_not_exist_cannot_be_granted_and_another_services_is_its_own_affair(tmp_path):
    rules = rules_of([SERVICE])
    with pytest.raises(ConfigurationError, match="JournalService/ListLegerEntries is no RPC"):
        merge_grants(rules, {"/realco.escrow.v1.JournalService/ListLegerEntries": frozenset({"reporting"})})
    elsewhere = {"/realco.transactions.v1.TransactionsService/GetTransaction": frozenset({"reporting"})}
    assert merge_grants(rules, elsewhere) == rules
