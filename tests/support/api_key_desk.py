"""Compliance behind its door, where persons and programs sign in to use API keys. Over gRPC."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from realco.approvals.v1 import approvals_pb2, approvals_pb2_grpc
from realco.compliance.v1 import api_keys_pb2 as pb
from realco.compliance.v1 import api_keys_pb2_grpc, parties_pb2, parties_pb2_grpc, persons_pb2, persons_pb2_grpc

from services.chassis.calls.answer import REPLAYED
from services.chassis.calls.client import ACTOR_TOKEN
from services.chassis.calls.serving import add_servicer, interface_of
from services.chassis.calls.status import from_status, status_in
from services.chassis.data.database import Database
from services.chassis.data.event_messages import is_left_out
from services.chassis.runtime import server
from services.chassis.values.ids import new_id
from services.compliance.api import OwnParties
from tests.support.compliance import ORG, ComplianceHarness
from tests.support.event_names import status_told
from tests.support.identity import Issuer

K = pb.ApiKey
HOLDER, OTHER = "admin-1", "admin-2"
STUBS = (
    api_keys_pb2_grpc.ApiKeysServiceStub,
    approvals_pb2_grpc.ApprovalsServiceStub,
    parties_pb2_grpc.PartiesServiceStub,
    persons_pb2_grpc.PersonsServiceStub,
)
READS_AND_WRITES = (K.COMPLIANCE_READ, K.COMPLIANCE_WRITE)


class Desk:
    """Compliance behind its door, and who knocks: persons by their names, programs by their tokens."""

    def __init__(self, harness: ComplianceHarness, issuer: Issuer, channel: aio.Channel) -> None:
        self.harness, self.issuer = harness, issuer
        self._rpcs: dict[str, Any] = {}
        for stub in STUBS:
            self._rpcs |= vars(stub(channel))
        self.is_replayed = False
        self._has_ended = False

    def sign_in(self, person: str, role: str = "admin") -> str:
        # Tokens tell the time in whole seconds: who signs in again does so in the next one.
        signed_in_at = int(time.time()) + self._has_ended
        return self.issuer.token(sub=person, role=role, org_id=ORG, amr=["mfa"], auth_time=signed_in_at)

    async def call(self, rpc: str, request: Any, token: str = "", *beside: tuple[str, str]) -> Any:
        """The answer, or the reason of the refusal with its words."""
        call = self._rpcs[rpc](request, metadata=(*((("authorization", f"Bearer {token}"),) if token else ()), *beside))
        try:
            answer = await call
        except aio.AioRpcError as error:
            status = status_in(error)
            assert status is not None
            refusal = from_status(status)
            assert refusal is not None
            return refusal.reason, refusal.message
        self.is_replayed = (REPLAYED, "true") in [*(await call.trailing_metadata())]
        return answer

    async def create(self, *scopes: K.Scope, person: str = HOLDER, days: int = 30, **more: Any) -> Any:
        expire_time = Timestamp()
        expire_time.FromDatetime(self.harness.clock.now() + timedelta(days=days))
        facts = {"idempotency_key": new_id("key"), "display_name": "ERP", "scopes": scopes or READS_AND_WRITES}
        request = pb.CreateApiKeyRequest(**(facts | more), expire_time=expire_time)
        return await self.call("CreateApiKey", request, self.sign_in(person))

    async def rotate(self, key: K, person: str = HOLDER, **more: Any) -> Any:
        request = pb.RotateApiKeyRequest(api_key_id=key.api_key_id, **{"idempotency_key": new_id("key")} | more)
        return await self.call("RotateApiKey", request, self.sign_in(person))

    async def revoke(self, key: K, person: str = OTHER) -> Any:
        return await self.call("RevokeApiKey", pb.RevokeApiKeyRequest(api_key_id=key.api_key_id), self.sign_in(person))

    async def decide(self, key: K, verb: str = "Approve", token: str = "", **more: Any) -> Any:
        """Of what waits about the key; by another admin, if nobody is named."""
        return await self._decide({"resource_id": [key.api_key_id]}, verb, token, **more)

    async def pass_check(self) -> Any:
        """Of the party that was made last; by another admin."""
        return await self._decide({"kind": ["REVIEW_COMPLIANCE_CHECK"]}, "Approve", note="Seen.")

    async def _decide(self, waiting: dict[str, Any], verb: str, token: str = "", **more: Any) -> Any:
        looking = self.sign_in(OTHER)
        asked = approvals_pb2.ListApprovalsRequest(**waiting, status=["PENDING"])
        listed, *_ = (await self.call("ListApprovals", asked, looking)).approvals
        read = await self.call("GetApproval", approvals_pb2.GetApprovalRequest(approval_id=listed.approval_id), looking)
        known = {"approval_id": read.approval_id, "etag": read.etag, "idempotency_key": new_id("key")}
        if verb == "Approve":
            known["content_hash"] = read.content_hash
        request = getattr(approvals_pb2, f"{verb}ApprovalRequest")(**known, **more)
        return await self.call(f"{verb}Approval", request, token or looking)

    async def exchange(self, key: K, secret: str) -> Any:
        request = pb.IssueApiKeyTokenRequest(api_key_id=key.api_key_id, secret=secret)
        return await self.call("IssueApiKeyToken", request)

    async def read(self, key: K, token: str = "") -> Any:
        request = pb.GetApiKeyRequest(api_key_id=key.api_key_id)
        return await self.call("GetApiKey", request, token or self.sign_in(OTHER))

    async def write(self, token: str) -> Any:
        """What a program may do without anybody's help, if its key is good."""
        facts = {"idempotency_key": new_id("key"), "kind": parties_pb2.Party.LLC, "legal_name": "Oak LLC"}
        return await self.call("CreateParty", parties_pb2.CreatePartyRequest(**facts), token)

    async def ask_elsewhere(self, token: str, org_id: str = ORG) -> Any:
        """What another service asks for each write and the first read, with the token that it was sent."""
        own = self.issuer.transactions.token("compliance")
        request = persons_pb2.ListPartiesOfPersonRequest(person_id=HOLDER)
        return await self.call("ListPartiesOfPerson", request, own, ("x-realco-org", org_id), (ACTOR_TOKEN, token))

    async def open_key(self, *scopes: K.Scope, **more: Any) -> tuple[K, str]:
        """A key that works, and its secret."""
        issued = await self.create(*scopes, **more)
        await self.decide(issued.api_key)
        return issued.api_key, issued.secret

    async def is_told(self, key: K) -> bool:
        """Whether the last event about the API key says the same as this answer, and which status by its name."""
        about = [one for one in await self.harness.list_events() if one.meta.aggregate_id == key.api_key_id]
        answer = K()
        answer.CopyFrom(key)
        for field in K.DESCRIPTOR.fields:
            if is_left_out(field):
                answer.ClearField(field.name)
        told = status_told(about[-1].DESCRIPTOR, K.DESCRIPTOR)
        return answer == about[-1].api_key and told in (None, K.Status.Name(key.status))

    async def end_sessions(self) -> None:
        await self.call(
            "EndSessions",
            parties_pb2.EndSessionsRequest(idempotency_key=new_id("key"), person_id=HOLDER),
            self.sign_in(OTHER),
        )
        self._has_ended = True


@asynccontextmanager
async def serving(database: Database, folder: Path) -> AsyncIterator[Desk]:
    issuer = Issuer(folder)
    harness = ComplianceHarness(database, issuer.key_tokens())
    servicers = [harness.api_keys, harness.inbox, harness.parties, harness.persons]
    interfaces = [interface_of(servicer) for servicer in servicers]
    parties = OwnParties(database, harness.clock)
    door = server.Interceptor("compliance", issuer.verifier("compliance"), interfaces, parties)
    running = server.build(door, 100)
    for servicer in servicers:
        add_servicer(servicer, running)
    async with aio.insecure_channel(f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}") as channel:
        await running.start()
        yield Desk(harness, issuer, channel)
        await running.stop(None)
