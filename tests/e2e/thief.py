"""Somebody with one stolen credential: the signing key of a service, a user of NATS or a login of PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import nats
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from nats.aio.client import Client
from realco.escrow.v1 import postings_pb2_grpc
from realco.transactions.v1 import payouts_pb2, payouts_pb2_grpc
from realco.type.v1.money_pb2 import Money

from deploy.local.instance import Instance
from deploy.nats_accounts import inbox_prefix
from deploy.secrets import Secrets
from services.chassis.calls.tokens import ServiceIdentity
from services.chassis.data.roles import SESSION_PROOF
from services.chassis.data.seals import Seals
from tests.e2e.organization import Organization

PAYOUTS = ("DISTRIBUTION", "ESCROW_WITHDRAWAL", "REFUND")


class Thief:
    """Calls services with the stolen key, in the organization of the test.

    Args:
        certificate: Whose certificate it has: without the service's own, the key is worth nothing.
    """

    def __init__(self, org: Organization, service: str, certificate: str = "") -> None:
        self._org = org
        self._certificate = certificate or service
        self._identity = ServiceIdentity(service, org.instance.identity.keys.service_key(service))

    def call(self, callee: str, stub: Any, rpc: str, request: Message) -> Any:
        """The answer, or the reason of the refusal."""
        metadata = (
            ("authorization", f"Bearer {self._identity.token(callee)}"),
            ("x-realco-org", self._org.org_id),
            ("x-realco-on-behalf-of-bin", b"admin-1"),
        )
        with self._org.instance.open_channel(callee, self._certificate) as channel:
            try:
                return getattr(stub(channel), rpc)(request, metadata=metadata, timeout=10)
            except grpc.RpcError as error:
                return _read_reason(error)

    def order(self, rpc: str, request: Message) -> Any:
        return self.call("escrow", postings_pb2_grpc.PostingsServiceStub, rpc, request)

    def pay(self, escrow_account_id: str, party_id: str, minor: int) -> dict[str, Any]:
        """What a payout of each type is answered."""
        amount = Money(currency_code="USD", amount_minor=minor)
        item = {"escrow_account_id": escrow_account_id, "party_id": party_id, "amount": amount}
        return {
            name: self.call(
                "transactions",
                payouts_pb2_grpc.PayoutsServiceStub,
                "BatchCreatePayouts",
                payouts_pb2.BatchCreatePayoutsRequest(items=[{**item, "type": name, "idempotency_key": f"try:{name}"}]),
            )
            for name in PAYOUTS
        }


def _read_reason(error: Any) -> str:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


@asynccontextmanager
async def connect_to_nats(instance: Instance, user: str, refused: list[str] | None = None) -> AsyncIterator[Client]:
    async def note(error: Exception) -> None:
        if refused is not None:
            refused.append(str(error))

    url = instance.nats_url(user)
    client = await nats.connect(url, inbox_prefix=inbox_prefix(user), error_cb=note, allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


async def connect_to_postgres(
    org: Organization, service: str, role: str, *, with_proof: bool = False
) -> asyncpg.Connection:
    """
    Args:
        with_proof: Whether the service's proof was stolen, too, or a session that it had opened.
    """
    instance = org.instance
    password = Secrets(instance.data_dir / "secrets").get(f"postgres_{role}")
    seals = Seals([bytes.fromhex(instance.identity.keys.data_key(service))])
    session = {SESSION_PROOF: seals.list_session_proofs()[0]} if with_proof else {}
    connection = await asyncpg.connect(
        instance.database_url(service), user=role, password=password, server_settings=session
    )
    await connection.execute("SELECT set_config('app.org_id', $1, false)", org.org_id)
    return connection


async def run_sql(connection: asyncpg.Connection, statement: str) -> str:
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as refused:
        return str(refused.sqlstate)
    return ""
