"""The gateway's composition root: settings, services, guard, routes, server. `python -m gateway`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from gateway import contracts, openapi, rpc
from gateway.app import Gateway
from gateway.cors import admit_origins
from gateway.counters import Counters
from gateway.guard import Guard
from gateway.http_server import HttpServer
from gateway.pages import Pages
from gateway.settings import Settings
from gateway.under_way import UnderWay
from gateway.upstream import Upstream
from services.chassis.calls.certificates import Certificates
from services.chassis.calls.tokens import Verifier
from services.chassis.process import telemetry
from services.chassis.process.health import Alarms
from services.chassis.process.lifecycle import DRAIN_SECONDS, stop_on_signals, wait_for_callers
from services.chassis.process.main import run
from services.chassis.process.settings import ConfigurationError, addresses_of
from services.chassis.process.telemetry import log

# Less fits one packet as it is; a higher level costs more time than it saves.
_GZIP_BYTES_MIN, _GZIP_LEVEL = 1400, 4


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then says it is not ready, finishes what is in hand and returns.

    Raises:
        ConfigurationError: the port cannot be bound, a service has no address, or a certificate is missing.
        BootError: an RPC has no access rule.
    """
    addresses = addresses_of(contracts.servers())
    upstream = Upstream(addresses, Certificates.load("gateway", settings, addresses.values()))
    counters = Counters(settings)
    alarms: Alarms = {}
    try:
        gateway = build(settings, Guard(counters, Verifier(settings)), upstream, stop, alarms)
        server = HttpServer(gateway, settings)
        if not await server.start():
            raise ConfigurationError(f"PORT: {settings.bind_host}:{settings.port} cannot be bound; is it in use?")
        log.info("serving", address=f"http://{settings.bind_host}:{server.port}")
        async with share_counts(settings, counters, alarms):
            await stop.wait()
            log.info("draining")
            await wait_for_callers(settings.drain_wait_seconds)
            await server.stop(DRAIN_SECONDS / 2)
        log.info("drained")
    finally:
        await upstream.close()


def build(settings: Settings, guard: Guard, upstream: Upstream, stop: asyncio.Event, alarms: Alarms) -> ASGIApp:
    """The application with every route of the contracts and the pages of its own."""
    under_way = UnderWay(settings.requests_max)
    gateway = Gateway(settings, guard, under_way)
    for endpoint in rpc.endpoints(settings, guard, upstream, under_way):
        gateway.add(endpoint.binding.http_method, endpoint.binding.template, endpoint)
    Pages(openapi.document(), upstream, stop, alarms).add_to(gateway)
    return GZipMiddleware(admit_origins(gateway, settings.cors_origins), _GZIP_BYTES_MIN, _GZIP_LEVEL)


@asynccontextmanager
async def share_counts(settings: Settings, counters: Counters, alarms: Alarms) -> AsyncIterator[None]:
    """Inside, rates are those of all gateways together, if there is a NATS to tell each other over."""
    if not (url := settings.nats_url.get_secret_value()):
        yield
        return
    from gateway.sharing import share  # who has no NATS need not have its client

    async with share(url, counters, alarms):
        yield


async def main(settings: Settings) -> None:
    telemetry.configure_logging("gateway")
    if settings.metrics_port is not None:
        telemetry.serve_metrics(settings.bind_host, settings.metrics_port)
    stop = asyncio.Event()
    stop_on_signals(stop)
    await serve(settings, stop)


if __name__ == "__main__":
    sys.exit(run(main, Settings))
