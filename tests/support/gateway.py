"""The gateway for tests, whole: real tokens, a real HTTP server, and a real gRPC server whose answers a test gives."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status
from joserfc import jwt
from joserfc.jwk import ECKey

from gateway import contracts
from gateway.__main__ import build, share_counts
from gateway.counters import Counters
from gateway.guard import Guard
from gateway.http_server import HttpServer
from gateway.settings import Settings
from gateway.upstream import Upstream
from services.chassis.calls.answer import REPLAYED
from services.chassis.calls.status import to_status
from services.chassis.calls.tokens import Verifier
from services.chassis.process.health import ALARM_KEY, Alarms
from services.chassis.values.errors import DomainError

ISSUER = "https://issuer.test"
KEY_ID = "issuer-1"
ISSUER_KEY = ECKey.generate_key("P-256", private=True)

TRANSACTION = "/api/v1/transactions/txn_" + "0" * 26
ESCROW_ACCOUNT = "esc_" + "0" * 26
KEY = {"Idempotency-Key": "key-1"}
JSON = {"Content-Type": "application/json"}

Answer = Callable[[Any], Message]


@dataclass
class Call:
    """One call as it reached the service."""

    rpc: str
    request: Any
    metadata: dict[str, str]
    seconds_left: float | None


@dataclass
class Services:
    """All four services in one gRPC server: it answers what the test put under the RPC's name."""

    answers: dict[str, Answer | Exception | Message] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    serving: bool = True
    alarms: tuple[str, ...] = ()
    # Said of every answer, as a service does of one it gave before.
    replayed: bool = False
    # Clear it to make every call wait.
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def start(self, port: int = 0) -> tuple[aio.Server, int]:
        server = aio.server()
        for service in contracts.services():
            handlers = {method.name: self._handler(method) for method in service.methods}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        health = grpc.unary_unary_rpc_method_handler(
            self._health,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),)
        )
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return server, bound

    async def _health(self, request: Any, context: Any) -> Any:
        states = health_pb2.HealthCheckResponse
        context.set_trailing_metadata(tuple((ALARM_KEY, text) for text in self.alarms))
        return states(status=states.SERVING if self.serving else states.NOT_SERVING)

    def _handler(self, method: Any) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            self.calls.append(Call(method.name, request, metadata, context.time_remaining()))
            await self.open.wait()
            replayed = ((REPLAYED, "true"),) if self.replayed else ()
            context.set_trailing_metadata(replayed)
            given = self.answers.get(method.name, GetMessageClass(method.output_type)())
            try:
                if isinstance(given, Exception):
                    raise given
                return given if isinstance(given, Message) else given(request)
            except DomainError as refusal:
                told = rpc_status.to_status(to_status(refusal, "test.realco"))
                await context.abort(told.code, told.details, (*told.trailing_metadata, *replayed))

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )


@dataclass
class GatewayHarness:
    """A running gateway, the services behind it, and a client in front of it."""

    services: Services
    grpc_server: aio.Server
    grpc_port: int
    client: httpx.AsyncClient
    port: int
    stop: asyncio.Event
    counters: Counters
    alarms: Alarms

    def forget(self) -> None:
        """As if no test had used it."""
        self.alarms.clear()
        self.services.answers.clear()
        self.services.calls.clear()
        self.services.serving = True
        self.services.alarms = ()
        self.services.replayed = False
        self.services.open.set()
        self.stop.clear()

    async def request(self, method: str, path: str, *, role: str | None = "admin", **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if role is not None:
            headers.setdefault("Authorization", f"Bearer {token(role)}")
        return await self.client.request(method, path, headers=headers, **options)

    async def send_raw(self, raw: bytes, seconds_max: float = 10) -> bytes:
        """Bytes as they are to the gateway's socket; what it answers until it closes or is silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(raw)
            await writer.drain()
            async with asyncio.timeout(seconds_max):
                return await reader.read(65536)
        finally:
            writer.close()


def write_issuers(folder: Path) -> Path:
    key = {**ISSUER_KEY.as_dict(private=False), "kid": KEY_ID, "use": "sig", "alg": "ES256"}
    jwks, issuers = folder / "jwks.json", folder / "issuers.json"
    jwks.write_text(json.dumps({"keys": [key]}))
    issuers.write_text(json.dumps([{"issuer": ISSUER, "audience": "realco", "jwks": str(jwks)}]))
    return issuers


def token(role: str = "admin", *, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
    """An acceptable token, changed as the test says; a claim or header of None is left out."""
    now = int(time.time())
    subject = {"investor": "inv-001"}.get(role, f"{role}-1")
    body = {"iss": ISSUER, "aud": "realco", "sub": subject, "iat": now, "exp": now + 300, "role": role}
    body |= {"org_id": "org-1", **claims}
    head = {"alg": "ES256", "typ": "at+jwt", "kid": KEY_ID, **(header or {})}
    return jwt.encode(
        {name: value for name, value in head.items() if value is not None},
        {name: value for name, value in body.items() if value is not None},
        key or ISSUER_KEY,
        algorithms=[str(head["alg"])],
    )


def settings(issuers: Path, **changes: Any) -> Settings:
    known = {"port": 0, "issuers_file": issuers, "environment": "local"}
    return Settings(**{**known, **changes})


@asynccontextmanager
async def run_gateway(directory: Path, **changes: Any) -> AsyncIterator[GatewayHarness]:
    """A gateway on a free port; `changes` are settings."""
    services = Services()
    grpc_server, grpc_port = await services.start()
    address = f"127.0.0.1:{grpc_port}"
    configured = settings(write_issuers(directory), **changes)
    upstream = Upstream(dict.fromkeys(contracts.servers(), address))
    stop = asyncio.Event()
    counters, alarms = Counters(configured), {}
    server = HttpServer(build(configured, Guard(counters, Verifier(configured)), upstream, stop, alarms), configured)
    assert await server.start()
    url = f"http://127.0.0.1:{server.port}"
    try:
        async with (
            share_counts(configured, counters, alarms),
            httpx.AsyncClient(base_url=url, timeout=15, verify=False) as client,
        ):
            yield GatewayHarness(services, grpc_server, grpc_port, client, server.port, stop, counters, alarms)
    finally:
        await server.stop(1)
        await upstream.close()
        await grpc_server.stop(None)


def new_transaction(**changes: Any) -> dict[str, Any]:
    body = {
        "type": "DEPOSIT",
        "paymentMethod": "WIRE",
        "amount": {"currencyCode": "USD", "amountMinor": "1050"},
        "escrowAccountId": ESCROW_ACCOUNT,
    }
    return {**body, **changes}


def is_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert {"type", "title", "detail", "instance", "errors"} <= set(problem)
    assert problem["requestId"] == response.headers["x-request-id"]
    return problem
