"""A throw-away instance for tests and the demo: `with Instance(data_dir) as instance:`.

- It is a real one: the same supervisor in a process of its own, with its own data, ports and keys.
- It uses no database and no NATS server named in the environment, and it ends with the process that started it.
- Ports and processes are read anew at each call: a killed process comes back with another process id.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from deploy.local.channels import credentials_of, open_channel
from deploy.local.clock import reset_clock, set_clock
from deploy.local.identity import CLIENT, LIFETIME_SECONDS, ORGANIZATION, Identity
from deploy.local.nats import Nats
from deploy.local.postgres import Postgres
from deploy.local.programs import Program, wait_until_ready
from deploy.local.readiness import http_answers
from deploy.local.state import State, find_process
from deploy.teams import read_teams
from deploy.topology import SUBSCRIBER, database_of

if TYPE_CHECKING:
    import grpc

START_SECONDS_MAX = 180.0


class Instance:
    """Not started until `start()` or the `with` block."""

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        module: str = "deploy.local",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`module` replaces `deploy.local` in `python -m deploy.local run …`; it takes the same arguments.

        `environment` is what a developer would have set for it, such as the secret of a provider's webhooks.
        """
        self.data_dir = Path(data_dir).resolve()
        self.identity = Identity(self.data_dir)
        self._state = State(self.data_dir)
        self._teams = read_teams((environment or {}).get("TEAMS_FILE"))
        command = [sys.executable, "-m", module, "run", "--data-dir", str(self.data_dir), "--port", str(port)]
        inherited = {name: os.environ[name] for name in ("PG_BIN",) if name in os.environ}
        self._program = Program(
            name="supervisor",
            command=command,
            log=self.data_dir / "logs" / "supervisor.log",
            environment=inherited | dict(environment or {}),
            stop_seconds=20.0,
            orphan_signal=signal.SIGTERM,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def launch(self) -> None:
        """Starts the supervisor and does not wait for it."""
        self._program.start()

    def start(self) -> None:
        """Returns when everything serves. Raises: ProgramFailed with the supervisor's output."""
        self.launch()
        try:
            wait_until_ready(self._program, self._is_ready, START_SECONDS_MAX)
        except BaseException:
            self._program.stop()
            raise

    def stop(self) -> None:
        """Stops everything in order; a second call does nothing."""
        self._program.stop()

    def signal(self, number: int) -> None:
        """To the supervisor."""
        self._program.signal(number)

    def wait(self, seconds: float) -> int:
        """The supervisor's status once it has ended. Raises: TimeoutError."""
        if not self._program.wait(seconds):
            raise TimeoutError(f"The supervisor has not ended within {seconds:g} s.")
        return self._program.exit_code or 0

    def kill_supervisor(self) -> None:
        """kill -9: the system ends the rest."""
        self.signal(signal.SIGKILL)
        self.wait(5.0)

    def _is_ready(self) -> bool:
        known = self._state.read()
        return known.get("status") == "ready" and known["supervisor"].get("pid") == self._program.pid

    # --- where things are -------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        return str(self._state.read()["base_url"])

    def grpc_address(self, service: str) -> str:
        return str(self._state.read()["grpc"][service])

    def open_channel(self, service: str, process: str = CLIENT) -> grpc.Channel:
        """A channel to that service, with the certificate of `process`."""
        return open_channel(self.read_ports()[service], service, credentials_of(self.identity, process))

    def read_ports(self) -> dict[str, int]:
        """Of everything that listens, by name."""
        return dict(self._state.read()["ports"])

    def nats_url(self, user: str = SUBSCRIBER) -> str:
        nats = Nats(self.data_dir, teams=self._teams)
        nats.port = self._state.read()["ports"]["nats"]
        return nats.url(user)

    def database_url(self, service: str) -> str:
        """The superuser's, `postgresql://…`: a test looks at the rows, past row level security."""
        postgres = Postgres(self.data_dir)
        postgres.port = self._state.read()["ports"]["postgres"]
        return postgres.admin_dsn.removesuffix("/postgres") + f"/{database_of(service).name}"

    def read_supervisor_pid(self) -> int:
        return int(self._state.read()["supervisor"]["pid"])

    def issue_token(
        self, role: str, sub: str | None = None, org: str = ORGANIZATION, lifetime: int = LIFETIME_SECONDS
    ) -> str:
        return self.identity.issue_token(role, sub, org, lifetime)

    # --- what tests do to it ----------------------------------------------------------------------------------------

    def set_clock(self, moment: datetime) -> None:
        """Business time runs from that moment on."""
        set_clock(self.data_dir, moment)

    def reset_clock(self) -> None:
        reset_clock(self.data_dir)

    def read_process(self, name: str) -> dict[str, Any]:
        """pid, created, status (starting, ready, down), restarts, log."""
        return dict(self._state.read()["processes"][name])

    def read_status(self, name: str) -> str:
        """Of a process; empty if it was never started."""
        return str(self._state.read().get("processes", {}).get(name, {}).get("status", ""))

    def read_pid(self, name: str) -> int:
        """Its process id now. Raises: ProcessLookupError while it is down."""
        known = self.read_process(name)
        if "pid" not in known:
            raise ProcessLookupError(f"{name} is {known['status']}")
        return int(known["pid"])

    def kill(self, name: str, *, with_children: bool = False) -> int:
        """kill -9. Returns: the process id it had. `with_children`: PostgreSQL's backends, too."""
        victim = psutil.Process(self.read_pid(name))
        children = victim.children(recursive=True) if with_children else []
        victim.kill()
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        return victim.pid

    def wait_until_back(self, name: str, killed: int, seconds: float = 30.0) -> None:
        """Until it serves again with another process id than the killed one. Raises: TimeoutError."""

        def back() -> bool:
            known = self.read_process(name)
            return known["status"] == "ready" and known.get("pid") not in (None, killed)

        self._wait(back, seconds, f"{name} did not come back within {seconds:g} s: {self.read_process(name)}")

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Until the gateway finds everything behind it ready: after a kill, the others may take a moment to notice."""

        def ready() -> bool:
            return http_answers(int(self.base_url.rsplit(":", 1)[1]), "/readyz")

        self._wait(ready, seconds, f"the gateway was not ready again within {seconds:g} s")

    def list_leftovers(self) -> list[str]:
        """The processes of this instance that still run: none, after it stopped."""
        return sorted(name for name, known in self._state.read()["processes"].items() if find_process(known))

    def read_end_of_log(self, name: str, lines: int = 20) -> str:
        return "\n".join((self.data_dir / "logs" / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def _wait(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(otherwise)
            time.sleep(0.05)
