"""The channel to a service: to all of its instances in turn, and with the certificate that the process has now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from grpc import aio

from services.chassis.calls.certificates import Certificates, Shown
from services.chassis.values.text import connection_name

# No call takes longer: so long a channel with the certificate of before is kept.
_CALL_SECONDS_MAX = 60.0
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # New instances of a service are found soon after an old one is gone.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # Calls under way notice a dead peer; an idle connection sends nothing, since a server takes idle pings for abuse.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),  # sent again in client.py, where it is known what may be sent twice
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
]


def open_channel(
    address: str, service: str, certificates: Certificates | None, *interceptors: aio.ClientInterceptor
) -> aio.Channel:
    """A channel to all instances of a service, in turn.

    Args:
        address: `host:port`; the host may be a name of several.
        service: Whose certificate has to be at the other end.
        certificates: Our own; None: the connection is not encrypted here.
    """
    target = f"dns:///{address}"
    if certificates is None:
        return aio.insecure_channel(target, options=_OPTIONS, interceptors=interceptors)
    # The name that the other end's certificate is checked for; an address is where it runs, and proves nothing.
    options = [*_OPTIONS, ("grpc.default_authority", connection_name(service))]

    def open_with(shown: Shown) -> aio.Channel:
        return aio.secure_channel(target, shown.to_channel(), options=options, interceptors=interceptors)

    return cast("aio.Channel", _RenewedChannel(certificates, open_with))


class _RenewedChannel:
    """A channel that is opened anew for each new certificate, since gRPC gives a channel one for its life.

    It has of a channel what calls between our services need: none of them is a stream.
    """

    def __init__(self, certificates: Certificates, open_with: Callable[[Shown], aio.Channel]) -> None:
        self._certificates = certificates
        self._open_with = open_with
        self._shown = certificates.current()
        self._channel = open_with(self._shown)
        self._former: set[asyncio.Task[None]] = set()

    def unary_unary(self, *method: Any, **options: Any) -> Callable[..., Any]:
        of = self._channel
        known: Any = of.unary_unary(*method, **options)

        def call(*request: Any, **sent: Any) -> Any:
            nonlocal of, known
            newest = self._renew()
            if newest is not of:
                of, known = newest, newest.unary_unary(*method, **options)
            return known(*request, **sent)

        return call

    async def channel_ready(self) -> None:
        await self._renew().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        for closing in self._former:
            closing.cancel()
        await asyncio.gather(*self._former, return_exceptions=True)
        await self._channel.close(grace)

    def _renew(self) -> aio.Channel:
        shown = self._certificates.current()
        if shown is not self._shown:
            closing = asyncio.create_task(_close_later(self._channel))
            self._former.add(closing)
            closing.add_done_callback(self._former.discard)
            self._shown, self._channel = shown, self._open_with(shown)
        return self._channel


async def _close_later(channel: aio.Channel) -> None:
    """Once the calls that began on it have ended."""
    try:
        await asyncio.sleep(_CALL_SECONDS_MAX)
    finally:
        await channel.close()
