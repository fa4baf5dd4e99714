"""The services behind the gateway: their RPCs, and whether they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from grpc_health.v1 import health_pb2

from services.chassis.calls.answer import says_replayed
from services.chassis.calls.certificates import Certificates
from services.chassis.calls.channels import open_channel
from services.chassis.calls.client import call_seconds, may_be_sent_twice, send
from services.chassis.process.health import ALARM_KEY

# How long a request that may be sent twice waits for its service to come back.
PATIENCE_SECONDS = 3.0
_CALL_SECONDS_MAX = 10.0
_HEALTH_SECONDS = 1.0


@dataclass(frozen=True)
class Health:
    """Whether a service says it is ready, and what in it waits for a person meanwhile."""

    ready: bool
    alarms: tuple[str, ...] = ()


class Upstream:
    """The services, by area.

    Args:
        addresses: Area -> `host:port`.
        certificates: The gateway's own; None: connections are not encrypted here.
    """

    def __init__(self, addresses: Mapping[str, str], certificates: Certificates | None = None) -> None:
        self._channels = {
            area: open_channel(address, area, certificates) for area, address in sorted(addresses.items())
        }

    def unary(self, area: str, method: MethodDescriptor) -> Unary:
        """The callable of one RPC."""
        return Unary(self._channels[area], method)

    async def health(self) -> dict[str, Health]:
        """By area, what its service says of itself."""
        answers = await asyncio.gather(*(_ask_health(channel) for channel in self._channels.values()))
        return dict(zip(self._channels, answers, strict=True))

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


class Unary:
    """One RPC of one service."""

    def __init__(self, channel: aio.Channel, method: MethodDescriptor) -> None:
        self._channel = channel
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        self._path = f"/{method.containing_service.full_name}/{method.name}"
        self._call = channel.unary_unary(
            self._path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    async def __call__(self, request: Message, metadata: Sequence[tuple[str, str]]) -> tuple[Message, bool]:
        """The response, and whether it was given before.

        Raises:
            AioRpcError: the service's refusal, or that it could not be reached.
        """

        async def attempt() -> tuple[Message, bool]:
            call = self._call(request, metadata=tuple(metadata), timeout=call_seconds(_CALL_SECONDS_MAX))
            response: Message = await call
            return response, says_replayed(await call.trailing_metadata())

        repeatable = may_be_sent_twice(self._path, request)
        return await send(attempt, self._channel, repeatable=repeatable, patience_seconds=PATIENCE_SECONDS)


async def _ask_health(channel: aio.Channel) -> Health:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        call = check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS)
        answer = await call
        alarms = tuple(str(value) for key, value in await call.trailing_metadata() if key == ALARM_KEY)
    except aio.AioRpcError:
        return Health(ready=False)
    return Health(answer.status == health_pb2.HealthCheckResponse.SERVING, alarms)
