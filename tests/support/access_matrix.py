"""Who may reach which RPC, asked of the processes that decide it: everybody's keys, and services that only answer.

A service here has the interceptor of the real one before handlers that ask nothing of what they are sent. What its
contract says of an RPC is read from the options, and not by the code that enforces them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from joserfc.jwk import ECKey
from realco.type.v1 import access_pb2, approval_pb2

from deploy.topology import SERVICE_NAMES
from gateway import contracts
from services.chassis.calls.auth import Principal, principal_or_none
from services.chassis.calls.parties import Parties
from services.chassis.calls.restore_gate import RestoreGate
from services.chassis.calls.serving import list_served
from services.chassis.calls.tokens import ServiceIdentity, Verifier, audience_of
from services.chassis.runtime import server
from services.chassis.spelling.descriptors import has_option
from tests.support.identity import Issuer

# A service whose key is known and that was granted nothing, beside those of the system.
CALLERS = (*SERVICE_NAMES, "reporting")
METHODS = [method for service in contracts.services() for method in service.methods]
Refusal = str
NO_TOKEN: Refusal = "UNAUTHENTICATED"
NO_RIGHT: Refusal = "PERMISSION_DENIED"


class Keys:
    """The keys of everybody: the issuer's and each service's."""

    def __init__(self, folder: Path) -> None:
        self.issuer = Issuer(folder)
        self.private = {name: ECKey.generate_key("P-256") for name in CALLERS}
        self.services = {name: ServiceIdentity(name, key) for name, key in self.private.items()}
        self.issuer.admit(*self.services.values())

    def forged(self, caller: str, key: ECKey, callee: str, *, kid: str = "", **claims: Any) -> str:
        """A token in the name of a service, changed as the test says."""
        name = f"service:{caller}"
        named = {"iss": name, "sub": name, "aud": audience_of(callee), "role": None, "org_id": None}
        return self.issuer.token(header={"kid": kid or name}, key=key, **(named | claims))


class Served:
    """One process that serves every RPC of an area, and asks nothing of what it is sent."""

    def __init__(self, address: str, channel: aio.Channel) -> None:
        self.address = address
        self.channel = channel
        # Whether the last call arrived, and who it came from, if anybody was asked.
        self.reached = False
        self.principal: Principal | None = None

    def forget(self) -> None:
        """As if nobody had called."""
        self.reached, self.principal = False, None

    async def call(
        self, method: MethodDescriptor, token: str, *more: tuple[str, str], request: bytes = b""
    ) -> Refusal | Principal | None:
        """Who the handler saw, or None where the request was refused only as a request; else why nobody came."""
        self.forget()
        metadata = (("authorization", f"Bearer {token}"), ("x-realco-org", "org_1"), *more)
        try:
            if is_stream(method):
                # Nothing is sent: to the library, a message to a stream that was just refused is a fault of its own.
                async for _ in self.channel.stream_stream(path_of(method))(iter(()), metadata=metadata):
                    pass
            else:
                await self.channel.unary_unary(path_of(method))(request, metadata=metadata)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                return error.code().name
        return self.principal

    async def handle(self, _: Any, __: Any) -> Empty:
        self.reached, self.principal = True, principal_or_none()
        return Empty()

    async def handle_stream(self, requests: AsyncIterable[Any], context: Any) -> AsyncIterator[Empty]:
        await self.handle(None, context)
        async for _ in requests:
            yield Empty()

    def handler_of(self, method: MethodDescriptor) -> Any:
        make, handle = (
            (grpc.stream_stream_rpc_method_handler, self.handle_stream)
            if is_stream(method)
            else (grpc.unary_unary_rpc_method_handler, self.handle)
        )
        return make(handle, GetMessageClass(method.input_type).FromString, Empty.SerializeToString)


def methods_of(area: str) -> list[MethodDescriptor]:
    return [method for service in list_served(area, contracts.services()) for method in service.methods]


def is_stream(method: MethodDescriptor) -> bool:
    return bool(method.client_streaming)


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


@asynccontextmanager
async def serving(
    verifier: Verifier, area: str, parties: Parties | None = None, gate: RestoreGate | None = None
) -> AsyncIterator[Served]:
    services = list_served(area, contracts.services())
    running = server.build(server.Interceptor(area, verifier, services, parties, gate=gate), 100)
    address = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    async with aio.insecure_channel(address) as channel:
        served = Served(address, channel)
        for service in services:
            handlers = {method.name: served.handler_of(method) for method in service.methods}
            running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        await running.start()
        yield served
        await running.stop(None)


def access_of(method: MethodDescriptor) -> access_pb2.Access:
    option: Any = access_pb2.access
    found: access_pb2.Access = method.GetOptions().Extensions[option]
    return found


def four_eyes_of(method: MethodDescriptor) -> approval_pb2.FourEyes:
    option: Any = approval_pb2.four_eyes
    found: approval_pb2.FourEyes = method.GetOptions().Extensions[option]
    return found


def has_route(method: MethodDescriptor) -> bool:
    return has_option(method, annotations_pb2.http)


def scope_of(method: MethodDescriptor) -> str:
    verb = "READ" if method.name.startswith(("Get", "List")) else "WRITE"
    return f"{method.full_name.split('.')[1]}_{verb}".upper()
