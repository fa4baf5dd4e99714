"""Starts a whole instance, watches it, and stops it: `python -m deploy.local run`.

- Each part starts as soon as what it needs is there; the first that cannot ends the whole start, and shows its log.
- A process that dies later is started again alone: a restart of PostgreSQL or NATS restarts nothing else.
- On Ctrl-C, SIGTERM, SIGHUP or a closed terminal all end in reverse order; if the supervisor itself is killed, the
  system ends them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from deploy.local import terminal
from deploy.local.configuration import Configuration, DatabaseUrls, External
from deploy.local.identity import Identity
from deploy.local.members import Member
from deploy.local.nats import Nats
from deploy.local.ports import LOOPBACK, choose_free_port, explain_unavailable
from deploy.local.postgres import Postgres
from deploy.local.processes import command_of, migration_command, provision_command, readiness_of
from deploy.local.programs import CannotStart, Program
from deploy.local.progress import Progress
from deploy.local.state import State, describe_process, end_leftovers
from deploy.secrets import private_folder
from deploy.teams import InvalidTeams, read_teams
from deploy.topology import GATEWAY, INNER_PORTS, NATS_USER_NAMES, PROCESSES, SERVICE_NAMES, Process

_POLL_SECONDS = 0.02
_LOG_BYTES_MAX = 20_000_000


class Supervisor:
    """One instance under `data_dir`, its gateway on `port` (0: any free one)."""

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        command: Callable[[Process], list[str]] = command_of,
        readiness: Callable[[Process, Identity], Callable[[int], bool]] = readiness_of,
        migration: Callable[[str], list[str]] = migration_command,
        provisioning: Callable[[], list[str]] = provision_command,
        external: External | None = None,
    ) -> None:
        """Tests give other commands, and other ways to ask whether a process serves; `external` is what the environment
        names.
        """
        self.state = State(data_dir)
        self.data_dir = self.state.data_dir
        self._port = port
        self._command_of = command
        self._readiness_of = readiness
        self._migration = migration
        self._provisioning = provisioning
        self._external = External.read() if external is None else external
        self._postgres = None if set(SERVICE_NAMES) <= self._external.databases.keys() else Postgres(self.data_dir)
        self._nats = None if self._external.nats_url else self._make_nats()
        self._members: dict[str, Member] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._errands: set[Program] = set()
        self._waves: dict[int, list[str]] = {0: []}
        self._status = "starting"
        self._progress: Progress

    @property
    def steps(self) -> list[str]:
        """What a start consists of, in the order it is shown."""
        own = [name for name, server in (("postgres", self._postgres), ("nats", self._nats)) if server]
        migrations = [f"migrate {service}" for service in SERVICE_NAMES]
        return [*own, "databases", *migrations, "streams", *(process.name for process in PROCESSES)]

    async def run(self, progress: Progress, announce: Callable[[Configuration, float], None]) -> None:
        """Starts all, calls `announce` when everything serves, and returns when it was told to stop and all has ended.

        Raises: CannotStart, after ending what it had started.
        """
        began = time.monotonic()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if (
                number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
            ):  # an ignored one: it was started with nohup
                asyncio.get_running_loop().add_signal_handler(number, self._on_signal, stop)
        hang_up = asyncio.create_task(self._stop_with_terminal(stop))
        self.state.lock()
        try:
            self._configuration = self._configure()
            self._progress = progress
            try:
                with progress:
                    ready = await self._start_or_stop(stop)
                if ready:
                    self._set_status("ready")
                    announce(self._configuration, time.monotonic() - began)
                    await self._watch(stop)
            finally:
                await self._stop()
        finally:
            hang_up.cancel()
            self.state.unlock()

    async def _stop_with_terminal(self, stop: asyncio.Event) -> None:
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and terminal.is_in_foreground(sys.stdout):
            await terminal.wait_until_closed(sys.stdout)
            stop.set()

    def _on_signal(self, stop: asyncio.Event) -> None:
        if stop.is_set():  # the second request: end everything at once
            for program in [*self._errands, *(member.program for member in self._members.values())]:
                program.signal(program.orphan_signal)
        stop.set()

    # --- start ------------------------------------------------------------------------------------------------------

    def _configure(self) -> Configuration:
        former = self.state.read()
        end_leftovers(former)
        if self._port and (obstacle := explain_unavailable(self._port)):
            other = self._port + 1 if 1024 <= self._port < 65535 else 8081
            raise CannotStart(
                f"Port {self._port} {obstacle}: choose another with PORT=, such as "
                f"`make run PORT={other}`, or PORT=0 for any that is free."
            )
        ports = former.get("ports", {})
        self._shorten_logs()
        identity = Identity(self.data_dir)
        identity.prepare()
        chosen = {name: choose_free_port(ports.get(name)) for name in INNER_PORTS}
        return Configuration(
            data_dir=self.data_dir,
            ports=chosen | {GATEWAY: self._port or choose_free_port(ports.get(GATEWAY))},
            identity=identity,
            databases=dict(self._external.databases),
            nats_urls={user: self._external.nats_urls.get(user, self._external.nats_url) for user in NATS_USER_NAMES},
        )

    async def _start_or_stop(self, stop: asyncio.Event) -> bool:
        """Whether everything serves; False if it was told to stop before. Raises: CannotStart."""
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return False
        try:
            starting.result()
        except ExceptionGroup as failures:
            raise _first_cause(failures) from None
        return True

    async def _start(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            databases = tasks.create_task(self._start_postgres())
            nats = tasks.create_task(self._start_nats())
            migrated = {service: tasks.create_task(self._migrate(service, databases)) for service in SERVICE_NAMES}
            provisioned = tasks.create_task(self._make_streams(nats))
            # Those of an earlier start will do meanwhile: a service is not ready before its streams are as it needs.
            streams = [] if self._provisioned_before.exists() else [provisioned]
            for process in PROCESSES:
                needs = [nats] if process.name in NATS_USER_NAMES else []
                needs += [migrated[process.name], *streams] if process.name in migrated else []
                tasks.create_task(self._start_process(process, needs))

    async def _step(self, name: str, work: Callable[[], Awaitable[str | None]]) -> None:
        """Shows the work as it goes; what it returns is shown beside it."""
        self._progress.started(name)
        try:
            self._progress.done(name, await work() or "")
        except CannotStart:
            self._progress.failed(name)
            raise

    async def _start_postgres(self) -> None:
        if (server := self._postgres) is not None:
            server.program.stop_seconds = 4.0
            member = Member(server.program, server.is_ready, server.prepare, server.is_held_by_orphans)
            await self._step("postgres", lambda: self._start_member(member, wave=0))
        await self._step("databases", self._make_databases)

    async def _make_databases(self) -> str:
        for service in SERVICE_NAMES:
            if service not in self._configuration.databases:
                assert self._postgres is not None
                urls = await asyncio.to_thread(self._postgres.create_database, service)
                self._configuration.databases[service] = DatabaseUrls(urls.app_url, urls.worker_url, urls.owner_url)
        return "" if self._postgres else "from the environment"

    async def _start_nats(self) -> None:
        if (server := self._nats) is not None:
            server.program.stop_seconds = 2.0
            member = Member(server.program, server.is_ready, server.prepare)
            await self._step("nats", lambda: self._start_member(member, wave=0))
            server.check_durable()
            self._configuration.nats_urls |= {user: server.url(user) for user in server.users}

    async def _make_streams(self, nats: asyncio.Task[None]) -> None:
        await _all_of([nats])
        await self._step("streams", self._provision)

    async def _provision(self) -> None:
        await self._errand("provisioner", self._provisioning())
        self._provisioned_before.touch()

    async def _migrate(self, service: str, databases: asyncio.Task[None]) -> None:
        await _all_of([databases])
        await self._step(f"migrate {service}", lambda: self._migrate_database(service))

    async def _migrate_database(self, service: str) -> str:
        if not self._configuration.databases[service].owner_url:
            return f"left to you: {service.upper()}_MIGRATION_DATABASE_URL is not set"
        embedded = None if service in self._external.databases else self._postgres
        if embedded is None:
            await self._errand(f"migrate-{service}", self._migration(service))
            return ""
        known = embedded.migration_notes.is_current(service)
        if not known:
            await self._errand(f"migrate-{service}", self._migration(service))
            embedded.migration_notes.remember(service)
        await asyncio.to_thread(embedded.shut_owner_out, service)
        return "as it should be" if known else ""

    async def _start_process(self, process: Process, needs: Sequence[asyncio.Task[None]]) -> None:
        await _all_of(needs)
        port = self._configuration.ports[process.name]
        program = self._program(process.name, self._command_of(process), process.stop_seconds)
        ready = self._readiness_of(process, self._configuration.identity)
        member = Member(program, lambda: ready(port))
        await self._step(process.name, lambda: self._start_member(member, process.wave))

    async def _start_member(self, member: Member, wave: int) -> None:
        self._members[member.name] = member
        self._waves.setdefault(wave, []).append(member.name)
        await member.start(self._save)
        self._keepers.add(asyncio.create_task(member.keep_running(self._save, self._progress.say)))

    async def _errand(self, name: str, command: Sequence[str]) -> None:
        """Runs a program to its end. Raises: CannotStart unless that is status 0."""
        program = self._program(name, command, stop_seconds=2.0)
        self._errands.add(program)
        program.start()
        try:
            status = await program.wait_until_ended(_POLL_SECONDS)
        finally:
            self._configuration.take_back(name)
        self._errands.discard(program)
        if status != 0:
            raise program.make_failure(f"ended with status {status}")

    def _program(self, name: str, command: Sequence[str], stop_seconds: float) -> Program:
        environment = self._configuration.environment(name)
        log = self.data_dir / "logs" / f"{name}.log"
        return Program(name, command, log, environment=environment, stop_seconds=stop_seconds)

    # --- watch and stop ---------------------------------------------------------------------------------------------

    async def _watch(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({stopping, *self._keepers}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for keeper in done & self._keepers:
            keeper.result()  # a keeper ends by itself only through a fault: show it

    async def _stop(self) -> None:
        self._set_status("stopping")
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for program in self._errands:
            program.kill_group()
        for wave in sorted(self._waves, reverse=True):
            # In wave 0, PostgreSQL is last: NATS was started beside it and does not need it.
            names = self._waves[wave]
            await asyncio.gather(*(self._members[name].stop() for name in names))
        self._set_status("stopped")

    # --- what others may know ---------------------------------------------------------------------------------------

    @property
    def _provisioned_before(self) -> Path:
        return self.data_dir / "provisioned"

    def _make_nats(self) -> Nats:
        """Raises: CannotStart if the teams' file cannot be followed."""
        try:
            teams = read_teams(os.environ.get("TEAMS_FILE"))
        except InvalidTeams as error:
            raise CannotStart(f"TEAMS_FILE: {error}") from None
        return Nats(self.data_dir, teams)

    def _set_status(self, status: str) -> None:
        self._status = status
        self._save()

    def _save(self) -> None:
        configuration = self._configuration
        servers = {"postgres": self._postgres and self._postgres.port, "nats": self._nats and self._nats.port}
        self.state.write(
            status=self._status,
            base_url=configuration.base_url,
            supervisor=describe_process(os.getpid()),
            ports=dict(configuration.ports) | {name: port for name, port in servers.items() if port},
            grpc={service: f"{LOOPBACK}:{configuration.ports[service]}" for service in SERVICE_NAMES},
            processes={name: member.describe() for name, member in self._members.items()},
        )

    def _shorten_logs(self) -> None:
        """Renames long logs; one older log of each process is kept."""
        for log in private_folder(self.data_dir / "logs").glob("*.log"):
            if log.stat().st_size > _LOG_BYTES_MAX:
                log.replace(log.with_suffix(".log.1"))


async def _all_of(needs: Sequence[asyncio.Task[None]]) -> None:
    """Waits for earlier steps. One that failed ends the whole start, so a step that waited for it is only cancelled."""
    if needs:
        await asyncio.wait(needs)
    if any(need.cancelled() or need.exception() for need in needs):
        raise asyncio.CancelledError


def _first_cause(failures: ExceptionGroup) -> Exception:
    first = failures.exceptions[0]
    return _first_cause(first) if isinstance(first, ExceptionGroup) else first
