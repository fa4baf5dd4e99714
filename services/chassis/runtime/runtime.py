"""What every service's `__main__` is made of: connect, check, serve, drain.

A service that cannot serve safely refuses to start and says what to mend. One whose background work dies ends with a
status other than 0, so that its supervisor starts it anew. On SIGTERM or SIGINT it says it is not ready, lets go of
its timers and events, finishes the calls in hand and ends; after ten seconds it ends anyway, which is safe because
nothing is acknowledged before it is committed (reliability rule c22).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
from grpc import aio
from grpc_reflection.v1alpha import reflection
from nats.aio.client import Client
from nats.js import JetStreamContext

from services.chassis.calls import client
from services.chassis.calls.certificates import Certificates
from services.chassis.calls.grants import read_grants
from services.chassis.calls.parties import Parties
from services.chassis.calls.restore_gate import RestoreGate
from services.chassis.calls.serving import add_servicer, interface_of
from services.chassis.calls.tokens import ServiceIdentity, Verifier
from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_away
from services.chassis.data.housekeeping import housekeeping
from services.chassis.data.lock_watch import watch_locks
from services.chassis.data.restores import find_restore
from services.chassis.data.work import WorkFinder
from services.chassis.events import streams
from services.chassis.events.consumer import list_hearings, list_streams, run_subscription
from services.chassis.events.handling import Subscription
from services.chassis.events.hearing import Faults, Hearing
from services.chassis.events.letter_watch import run_letter_watch
from services.chassis.events.relay import run_relay
from services.chassis.events.restore_watch import run_restore_watch
from services.chassis.events.signatures import EventKey, EventKeys
from services.chassis.events.watch import run_watch
from services.chassis.process import telemetry
from services.chassis.process.clock_watch import watch_clock
from services.chassis.process.health import Alarms, Health
from services.chassis.process.jobs import Job, run_jobs
from services.chassis.process.lifecycle import DRAIN_SECONDS, stop_on_signals, wait_for_callers
from services.chassis.process.loops import wait_for_any
from services.chassis.process.settings import Settings, addresses_of
from services.chassis.process.telemetry import log
from services.chassis.runtime import server
from services.chassis.runtime.boot import boot_check, check_nats_version, run_boot_watch
from services.chassis.values.clock import clock_from
from services.chassis.values.errors import BootError

# gRPC's own reflection package has no types.
_reflection: Any = reflection

BOOT_SECONDS = 30.0
_HEALTH_SECONDS = 2.0
# How often the database is asked, as long as it answers.
_PING_SECONDS = 10.0


class Runtime:
    """The running parts of one service: database, clock, nats, js, identity, channel(...), work_due, stop."""

    def __init__(self, name: str, settings: Settings, database: Database, nats: Client) -> None:
        self.name = name
        self.settings = settings
        self.database = database
        self.nats = nats
        self.js: JetStreamContext = streams.jetstream(nats)
        self.clock = clock_from(settings)
        assert settings.service_key_file is not None  # required before
        self.identity = ServiceIdentity.load(name, settings.service_key_file)
        self.verifier = Verifier(settings, name)
        self.certificates = Certificates.load(name, settings)
        assert settings.event_key_file is not None  # required before
        self.event_key = EventKey.load(name, settings.event_key_file)
        self.event_keys = EventKeys(settings.event_jwks)
        # Set by what may have left work for a job.
        self.work_due = asyncio.Event()
        # Set to end the service; signals set it.
        self.stop = asyncio.Event()
        # The port in use, and set once calls are taken.
        self.port = 0
        self.serving = asyncio.Event()
        self._channels: dict[str, aio.Channel] = {}
        # What is wrong, by what it is wrong with: as long as there is any, the service is not ready.
        self.faults: Faults = {}
        # What waits for a person, while the service serves on.
        self.alarms: Alarms = {}
        # Set in the course of the drain: relay, consumers and jobs end.
        self._quiet = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def start(cls, name: str, settings: Settings) -> AsyncIterator[Runtime]:
        """Connects and checks.

        Raises:
            ConfigurationError, BootError: the service must not serve as things are.
        """
        telemetry.configure_logging(name)
        settings.require("database_url", "worker_database_url", "nats_url", "service_key_file")
        settings.require("issuers_file", "service_jwks", "event_key_file", "event_jwks", "data_key_file")
        database = Database.open(settings, name)
        nats: Client | None = None
        runtime: Runtime | None = None
        try:
            await _wait_for_database(database, settings)
            nats = await streams.connect(settings.nats_url.get_secret_value(), name, timeout_seconds=BOOT_SECONDS)
            version = nats.connected_server_version
            check_nats_version(f"{version.major}.{version.minor}.{version.patch}")
            runtime = cls(name, settings, database, nats)
            yield runtime
        finally:
            if runtime is not None:
                await runtime.close_channels()
            if nats is not None:
                await nats.close()
            await database.dispose()

    def channel(self, service_name: str) -> aio.Channel:
        """The channel to another service: one for the process, made when first asked for.

        Raises:
            ConfigurationError: nobody said where that service is.
        """
        if service_name not in self._channels:
            address = addresses_of([service_name])[service_name]
            self._channels[service_name] = client.channel(address, self.identity, service_name, self.certificates)
        return self._channels[service_name]

    async def close_channels(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def serve(
        self,
        servicers: Sequence[object],
        parties: Parties,
        subscriptions: Sequence[Subscription] = (),
        jobs: Sequence[Job] = (),
        *,
        answers_for_persons: bool = False,
    ) -> None:
        """Serves until `stop` is set or a signal comes, then drains.

        Args:
            parties: Tells for whom an investor acts, and whether an API key is still good.
            answers_for_persons: See RestoreGate.

        Raises:
            BootError: the port is taken, or an RPC has no access rule.
            Exception: whatever ended a background task.
        """
        gate = RestoreGate(answers_for_persons=answers_for_persons)
        gate.note(await find_restore(self.database.reader))  # before the first call; then its watch does
        grants = read_grants(self.settings.service_grants_file)
        interfaces = [interface_of(servicer) for servicer in servicers]
        interceptor = server.Interceptor(self.name, self.verifier, interfaces, parties, grants, gate)
        grpc_server, health = self._build(interceptor, servicers)
        stop_on_signals(self.stop)
        await grpc_server.start()
        if self.settings.metrics_port is not None:
            telemetry.serve_metrics(self.settings.bind_host, self.settings.metrics_port)
        tasks = self._background(health, gate, subscriptions, jobs)
        log.info("serving", address=f"{self.settings.bind_host}:{self.port}")
        self.serving.set()
        stopping = asyncio.create_task(self.stop.wait())
        try:
            ended, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            early = [task for task in ended if task is not stopping]
        finally:
            self.serving.clear()
            await self._drain(grpc_server, interceptor, health, tasks)
            stopping.cancel()
        for task in early:
            task.result()  # raises what it died of
            if not self.stop.is_set():
                raise RuntimeError(f"{task.get_name()} ended by itself")

    def _build(self, interceptor: server.Interceptor, servicers: Sequence[object]) -> tuple[aio.Server, Health]:
        grpc_server = server.build(interceptor, self.settings.grpc_concurrent_rpcs_max)
        names = [interface_of(servicer).full_name for servicer in servicers]
        health = Health(grpc_server, names, self.alarms)
        for servicer in servicers:
            add_servicer(servicer, grpc_server)
        if self.settings.environment == "local":
            _reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], grpc_server)
        address = f"{self.settings.bind_host}:{self.settings.grpc_port}"
        self.port = server.bind(grpc_server, address, self.certificates)
        if self.port == 0:
            raise BootError(f"GRPC_PORT: {address} cannot be bound; is another process using it?")
        return grpc_server, health

    def _background(
        self,
        health: Health,
        gate: RestoreGate,
        subscriptions: Sequence[Subscription],
        jobs: Sequence[Job],
    ) -> list[asyncio.Task[None]]:
        all_jobs = [*jobs, housekeeping(self.database), watch_locks(self.database, self.alarms)]
        watched: list[Hearing] = []
        work: dict[str, Coroutine[Any, Any, None]] = {
            "relay": run_relay(
                self.database, self.js, self.name, self.event_key, self._quiet, self.faults, self.alarms
            ),
            "jobs": run_jobs(
                all_jobs,
                self._quiet,
                self.work_due,
                self.alarms,
                WorkFinder(self.database, self.clock, all_jobs, self.alarms).find,
            ),
            "clock": watch_clock(self.clock, self._quiet, self.work_due),
            "health": self._watch_health(health),
            "dead letters": run_letter_watch(self.database, subscriptions, self._quiet, self.alarms),
            "restore": run_restore_watch(
                self.database, self.js, self.name, self.event_keys, self._quiet, self.alarms, gate
            ),
            "boot": run_boot_watch(
                partial(Database.open, self.settings, self.name), self.settings, self._quiet, self.alarms
            ),
        }
        for subscription in subscriptions:
            hearings = list_hearings(subscription)
            watched += hearings
            work[f"consumer {subscription.consumer}"] = run_subscription(
                self.database,
                self.js,
                subscription,
                hearings,
                self.event_keys,
                self.clock,
                self._quiet,
                self.work_due,
                self.faults,
                self.alarms,
            )
        streams_used = list_streams(self.name, subscriptions)
        work["watch"] = run_watch(self.database, self.js, streams_used, watched, self._quiet, self.faults, self.alarms)
        return [asyncio.create_task(coroutine, name=name) for name, coroutine in work.items()]

    async def _watch_health(self, health: Health) -> None:
        """Ready while the database answers, streams and positions are as they have to be, and no event is withheld.
        NATS may be away: the outbox keeps what there is to say, and an alarm says so once it takes minutes.
        """
        answers, asked_at = False, 0.0
        while not self.stop.is_set():
            if self.nats.is_closed:  # it never gives up by itself, so this is beyond repair from inside
                raise RuntimeError("the connection to NATS is closed")
            if not answers or time.monotonic() - asked_at >= _PING_SECONDS:
                answers, asked_at = await self._ping(), time.monotonic()
            await health.set_all(ready=answers and not self.faults)
            await wait_for_any(self.stop, seconds=_HEALTH_SECONDS)

    async def _ping(self) -> bool:
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self.database.ping()
        except Exception as error:  # every failure means the same here
            log.warning("not_ready", error=type(error).__name__)
            return False
        return True

    async def _drain(
        self,
        grpc_server: aio.Server,
        interceptor: server.Interceptor,
        health: Health,
        tasks: Sequence[asyncio.Task[None]],
    ) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        log.info("draining", in_flight=interceptor.in_flight)
        await health.set_all(ready=False)
        await wait_for_callers(self.settings.drain_wait_seconds)
        self._quiet.set()
        await asyncio.wait(tasks, timeout=3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Our own count, since gRPC's grace period is not one for aio (grpc issue 37239).
        await wait_for_any(interceptor.idle, seconds=max(0.0, deadline - 1 - time.monotonic()))
        await grpc_server.stop(grace=max(0.1, deadline - time.monotonic()))
        log.info("drained", in_flight=interceptor.in_flight)


async def _wait_for_database(database: Database, settings: Settings) -> None:
    """Waits for PostgreSQL to come up, as both may have been started together; then it must pass."""
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        try:
            await boot_check(database, settings, is_start=True)
            return
        except BootError:
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            if not is_away(error) or time.monotonic() > deadline:
                raise BootError(f"PostgreSQL cannot be used with DATABASE_URL: {_reason(error)}") from None
        await asyncio.sleep(0.2)


def _reason(error: BaseException) -> str:
    """The first line of what the driver says; it names roles and databases, never passwords."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
