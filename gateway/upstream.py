"""Calls to the services: one channel an area, the caller's token and trace, the time that is left.

A service that restarts costs its callers a short wait instead of an error, where asking twice has no second effect:
reads, and requests that carry an idempotency key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from grpc_health.v1 import health_pb2

from gateway.problems import came_from_service, is_replayed
from services.chassis.calls.deadline import remaining_seconds

# How long a request that may be sent twice waits for its service to come back.
RETURN_SECONDS_MAX = 3.0
_PAUSE_SECONDS = 0.05
_MARGIN_SECONDS = 0.1  # kept for answering our own caller
_HEALTH_SECONDS = 1.0
_OPTIONS: Sequence[tuple[str, Any]] = [
    # Calls under way notice a dead peer; an idle connection sends nothing, since a server takes idle pings for abuse.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),  # retried here, where it is known what may be sent twice
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
]


class Upstream:
    """The services, by area.

    Args:
        addresses: Area -> `host:port`.
    """

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._channels = {
            area: aio.insecure_channel(address, options=_OPTIONS) for area, address in sorted(addresses.items())
        }

    def unary(self, area: str, method: MethodDescriptor) -> Unary:
        """The callable of one RPC."""
        return Unary(self._channels[area], method)

    async def health(self) -> dict[str, bool]:
        """Area -> whether its service says it is ready."""
        answers = await asyncio.gather(*(_serving(channel) for channel in self._channels.values()))
        return dict(zip(self._channels, answers, strict=True))

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


class Unary:
    """One RPC of one service."""

    def __init__(self, channel: aio.Channel, method: MethodDescriptor) -> None:
        self._channel = channel
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        service = method.containing_service.full_name
        self._call = channel.unary_unary(
            f"/{service}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    async def __call__(
        self, request: Message, metadata: Sequence[tuple[str, str]], *, repeatable: bool
    ) -> tuple[Message, bool]:
        """The response, and whether it was given before.

        Raises:
            AioRpcError: the service's refusal, or that it could not be reached.
        """
        give_up_at = time.monotonic() + (RETURN_SECONDS_MAX if repeatable else 0)
        while True:
            try:
                call = self._call(request, metadata=tuple(metadata), timeout=_left())
                response: Message = await call
                replayed = is_replayed(await call.initial_metadata()) or is_replayed(await call.trailing_metadata())
                return response, replayed
            except aio.AioRpcError as error:
                if not _connection_failed(error) or time.monotonic() >= give_up_at:
                    raise
                await self._wait_until_back(give_up_at, error)

    async def _wait_until_back(self, give_up_at: float, error: aio.AioRpcError) -> None:
        """Returns when it is worth another try; raises `error` when there is no time for one."""
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + give_up_at - time.monotonic()):
                await asyncio.sleep(_PAUSE_SECONDS)
                await self._channel.channel_ready()
        except TimeoutError:
            raise error from None


def _connection_failed(error: aio.AioRpcError) -> bool:
    # A server that stops answers the calls it had queued with CANCELLED (grpc issue 41785).
    gone = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    return error.code() in gone and not came_from_service(error)


def _left() -> float:
    remaining = remaining_seconds()
    return max(0.001, (10.0 if remaining is None else remaining) - _MARGIN_SECONDS)


async def _serving(channel: aio.Channel) -> bool:
    try:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS)
    except aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
