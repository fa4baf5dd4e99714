"""Calls to a service, from another one or from the gateway: what is sent again, and how long.

A service that restarts costs its callers a short wait instead of an error, where sending twice has no second effect:
what only reads, and what carries the key under which its first answer is kept. A service says who it is and for whom
it asks; the gateway forwards its caller's own token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, TypeVar

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from grpc import aio

from services.chassis.calls.access import is_idempotent
from services.chassis.calls.auth import principal_or_none
from services.chassis.calls.certificates import Certificates
from services.chassis.calls.channels import open_channel
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.calls.status import status_in
from services.chassis.calls.tokens import ServiceIdentity
from services.chassis.process import telemetry

C = TypeVar("C")

# The metadata that carries the own token of the person a service calls for.
ACTOR_TOKEN = "x-realco-actor-token"  # noqa: S105  # a name
CALL_SECONDS_MAX = 5.0
# How long a service waits for a peer to come back; its own caller is waiting, too.
PATIENCE_SECONDS = 1.0
KEY_FIELD = "idempotency_key"
_PAUSE_SECONDS = 0.05
_MARGIN_SECONDS = 0.2  # kept for answering our own caller


def channel(
    address: str, identity: ServiceIdentity, callee: str, certificates: Certificates | None = None
) -> aio.Channel:
    """A service's channel to another one, named `callee`: what is sent there proves nothing anywhere else."""
    as_service = _AsService(identity, callee)
    as_service.channel = open_channel(address, callee, certificates, as_service)
    return as_service.channel


def call_seconds(asked: float) -> float:
    """The smaller of what is asked and what our own caller leaves us."""
    remaining = remaining_seconds()
    return max(0.001, asked if remaining is None else min(asked, remaining - _MARGIN_SECONDS))


async def send(
    attempt: Callable[[], Awaitable[C]], channel: aio.Channel, *, repeatable: bool, patience_seconds: float
) -> C:
    """Runs `attempt`, and again where the connection failed and nothing speaks against it.

    Only that is tried again: a service that answers UNAVAILABLE has tried already.

    Raises:
        AioRpcError: the service's refusal, or that it could not be reached.
    """
    give_up_at = time.monotonic() + (patience_seconds if repeatable else 0)
    while True:
        try:
            return await attempt()
        except aio.AioRpcError as error:
            if not _connection_failed(error) or time.monotonic() >= give_up_at:
                raise
            try:
                async with asyncio.timeout(give_up_at - time.monotonic()):
                    await asyncio.sleep(_PAUSE_SECONDS)
                    await channel.channel_ready()
            except TimeoutError:
                raise error from None


def may_be_sent_twice(method: str, request: Message) -> bool:
    """True if sending the request again has no second effect. `method` is gRPC's path, `/realco.escrow.v1.…/…`."""
    if _is_idempotent(method):
        return True
    if KEY_FIELD in request.DESCRIPTOR.fields_by_name:
        return bool(getattr(request, KEY_FIELD))
    items = request.DESCRIPTOR.fields_by_name.get("items")
    if items is None or items.message_type is None or KEY_FIELD not in items.message_type.fields_by_name:
        return False
    return all(getattr(item, KEY_FIELD) for item in getattr(request, "items"))  # noqa: B009


@cache
def _is_idempotent(path: str) -> bool:
    return is_idempotent(descriptor_pool.Default().FindMethodByName(path.removeprefix("/").replace("/", ".")))


def _connection_failed(error: aio.AioRpcError) -> bool:
    """True if no service of ours decided this."""
    # A server that stops answers the calls it had queued with CANCELLED (grpc issue 41785).
    gone = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    return error.code() in gone and status_in(error) is None


class _AsService(aio.UnaryUnaryClientInterceptor):
    channel: aio.Channel  # the one it is an interceptor of

    def __init__(self, identity: ServiceIdentity, callee: str) -> None:
        self._identity = identity
        self._callee = callee

    async def intercept_unary_unary(
        self,
        continuation: Callable[[aio.ClientCallDetails, Any], Any],
        client_call_details: aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        asked = client_call_details.timeout
        ends_at = time.monotonic() + (CALL_SECONDS_MAX if asked is None else min(asked, CALL_SECONDS_MAX))

        async def attempt() -> Any:
            details = self._details(client_call_details, ends_at - time.monotonic())
            call = await continuation(details, request)
            await call  # raises what it failed of
            return call

        method: str | bytes = client_call_details.method  # gRPC says one thing and does the other
        path = method.decode() if isinstance(method, bytes) else method
        repeatable = may_be_sent_twice(path, request)
        return await send(attempt, self.channel, repeatable=repeatable, patience_seconds=PATIENCE_SECONDS)

    def _details(self, given: aio.ClientCallDetails, seconds: float) -> aio.ClientCallDetails:
        metadata = aio.Metadata(*(given.metadata or ()))
        metadata.add("authorization", f"Bearer {self._identity.token(self._callee)}")
        for key, value in self._context().items():
            metadata.add(key, value)
        principal = principal_or_none()
        if principal is not None and principal.person != self._identity.subject:
            # Binary: a person's name may have characters that a header cannot carry.
            metadata.add("x-realco-on-behalf-of-bin", principal.person.encode())
        if principal is not None and principal.token:
            metadata.add(ACTOR_TOKEN, principal.token)
        return aio.ClientCallDetails(
            method=given.method,
            timeout=call_seconds(seconds),
            metadata=metadata,
            credentials=given.credentials,
            wait_for_ready=given.wait_for_ready,
        )

    def _context(self) -> dict[str, str]:
        found = {"traceparent": telemetry.current_traceparent(), "x-request-id": telemetry.current_request_id()}
        principal = principal_or_none()
        if principal is not None:
            found["x-realco-org"] = principal.org_id
        return {key: value for key, value in found.items() if value}
