"""A PostgreSQL server of our own: made, started, watched and stopped, with a database and roles for each service.

- Durable: fsync, full_page_writes, synchronous_commit and data checksums are on, and nothing here turns them off.
- Closed: it listens on 127.0.0.1 alone, has no Unix socket, and lets in nobody without a SCRAM password.
- Discreet: what it logs of an error is that a service has lost its connection; the values of rows, which the words of
  an error repeat, stay out of its log.
- Bounded: whoever has a login of a service leaves little on the disk. Messages (NOTIFY) that nobody takes are half a
  megabyte at most; the log keeps no plans of statements, and pg_stat_statements keeps none of their texts, which may be
  of any length.
- After a kill -9, `start` waits until the child processes of the killed server have released its shared memory.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import psutil

from deploy import databases
from deploy.local.migration_notes import MigrationNotes
from deploy.local.ownership import give_folder_to
from deploy.local.ports import LOOPBACK, choose_free_port
from deploy.local.postgres_binaries import choose_identity, find_pg_bin, read_major_version
from deploy.local.programs import CannotStart, Program, ProgramFailed, base_environment, wait_until_ready, wrap_command
from deploy.secrets import Secrets, private_folder, write_private
from deploy.topology import database_of

SUPERUSER = "postgres"
ORPHANS_SECONDS_MAX = 30.0
_SETTINGS = """\
# Written at every start by deploy/local/postgres.py.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 200
password_encryption = 'scram-sha-256'
shared_buffers = '256MB'
max_wal_size = '2GB'
fsync = on
full_page_writes = on
synchronous_commit = on
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.track = none
pg_stat_statements.track_utility = off
max_notify_queue_pages = 64
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
tcp_user_timeout = 10s
tcp_keepalives_idle = 10
tcp_keepalives_interval = 5
tcp_keepalives_count = 3
client_connection_check_interval = 5s
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
log_connections = on
"""
_ADMISSION = "# Written at every start by deploy/local/postgres.py.\nhost all all 127.0.0.1/32 scram-sha-256\n"


class Postgres:
    """One cluster under `data_dir`: `start()` and `stop()`, or a `with` block."""

    def __init__(self, data_dir: Path, *, run_as: str | None = None) -> None:
        """`run_as` forces one of the ways of child.py, for root only; by default the first that works is taken."""
        self.data_dir = Path(data_dir).resolve()
        self._folder = self.data_dir / "postgres"
        self._cluster = self._folder / "cluster"
        self._identity = run_as or choose_identity()
        self.migration_notes = MigrationNotes(self._cluster)
        self._secrets = Secrets(self.data_dir / "secrets")
        self.port = 0
        self.program = Program(
            name="postgres",
            command=[str(find_pg_bin() / "postgres"), "-D", str(self._cluster)],
            log=self.data_dir / "logs" / "postgres.log",
            environment={"LC_ALL": "C"},
            stop_signal=signal.SIGINT,  # "fast": ends the sessions, writes a checkpoint
            orphan_signal=signal.SIGQUIT,  # ends its own children too, and recovers at the next start
            identity=self._identity,
            cwd=Path("/"),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- the server -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Makes the cluster if there is none and writes its settings; after this `program` may be started."""
        private_folder(self._folder)
        give_folder_to(self._identity, self._folder)
        if not self._cluster.exists():
            self._initialize()
        self._check_version()
        if self.port == 0:
            self.port = self._choose_port()
        (self._cluster / "realco.conf").write_text(_SETTINGS.format(port=self.port))
        (self._cluster / "pg_hba.conf").write_text(_ADMISSION)
        give_folder_to(self._identity, self._cluster)
        self._forget_dead_postmaster()

    def is_ready(self) -> bool:
        """Whether the server we started accepts connections: the eighth line of its pid file says so."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.program.pid) and lines[7].strip() == "ready"

    def start(self) -> None:
        """Raises: ProgramFailed with the end of the log."""
        self.prepare()
        deadline = time.monotonic() + ORPHANS_SECONDS_MAX
        while True:
            self.program.start()
            try:
                return wait_until_ready(self.program, self.is_ready, 60.0)
            except ProgramFailed:
                if time.monotonic() > deadline or not self.is_held_by_orphans():
                    self.program.stop()
                    raise
            time.sleep(0.1)

    def is_held_by_orphans(self) -> bool:
        """Whether the last start failed because processes of a killed server are still ending."""
        log = self.program.read_end_of_log()
        return "pre-existing shared memory block" in log or 'lock file "postmaster.pid"' in log

    def stop(self) -> None:
        self.program.stop()

    def _initialize(self) -> None:
        """initdb into a folder beside, renamed when it is whole: a kill in the middle leaves no half-made cluster."""
        draft = self._folder / "cluster.new"
        shutil.rmtree(draft, ignore_errors=True)
        password = self._folder / "password"
        write_private(password, self._secrets.get("postgres_superuser"))
        give_folder_to(self._identity, self._folder)
        arguments = ["-D", str(draft), "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8"]
        arguments += ["--locale-provider=builtin", "--locale=C.UTF-8", "--data-checksums"]
        command = wrap_command([str(find_pg_bin() / "initdb"), *arguments], identity=self._identity)
        try:
            made = subprocess.run(
                command, capture_output=True, text=True, env=base_environment() | {"LC_ALL": "C"}, cwd="/", check=False
            )
        finally:
            password.unlink()
        if made.returncode != 0:
            raise ProgramFailed(f"initdb failed:\n{made.stdout}{made.stderr}")
        with (draft / "postgresql.conf").open("a") as settings:
            settings.write("\ninclude 'realco.conf'\n")
        draft.rename(self._cluster)

    def _check_version(self) -> None:
        made_by = int((self._cluster / "PG_VERSION").read_text())
        if made_by != (here := read_major_version(find_pg_bin())):
            raise CannotStart(
                f"{self._cluster} was made by PostgreSQL {made_by}, and {find_pg_bin()} holds {here}: "
                f"set PG_BIN to a PostgreSQL {made_by}, or move the folder away to begin anew."
            )

    def _choose_port(self) -> int:
        """The one of the last start if it is still free."""
        file = self._folder / "port"
        port = choose_free_port(int(file.read_text()) if file.exists() else None)
        file.write_text(str(port))
        return port

    def _forget_dead_postmaster(self) -> None:
        """Removes the pid file of a killed server if another program has its number now: it would forbid the start."""
        file = self._cluster / "postmaster.pid"
        if not file.exists():
            return
        pid = int(file.read_text().split("\n", 1)[0] or 0)
        try:
            if psutil.Process(pid).name().startswith("postgres"):
                return  # the server itself, or one of its orphans: let PostgreSQL decide
        except psutil.Error:
            pass
        file.unlink()

    # --- databases and roles ----------------------------------------------------------------------------------------

    @property
    def admin_dsn(self) -> str:
        """The superuser's, for tests and repairs; no service has it."""
        return self._url("postgresql", SUPERUSER, self._secrets.get("postgres_superuser"), "postgres")

    def create_database(self, name: str) -> SimpleNamespace:
        """Database `realco_<name>` with roles `<name>_owner`, `<name>_app` and `<name>_worker`, if not there yet.

        Returns: name, owner_url, app_url, worker_url, admin_url; the URLs are `postgresql+asyncpg://…`.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
            raise ValueError(f"A database name has small letters, digits and underscores, at most 41: {name!r}")
        known = database_of(name)
        passwords = databases.passwords_of(known, self._secrets)
        _run(databases.create_database(self.admin_dsn, known, passwords))
        passwords[SUPERUSER] = self._secrets.get("postgres_superuser")
        urls = {role: self._url("postgresql+asyncpg", role, word, known.name) for role, word in passwords.items()}
        return SimpleNamespace(
            name=known.name,
            owner_url=urls[known.owner_role],
            app_url=urls[known.app_role],
            worker_url=urls[known.worker_role],
            admin_url=urls[SUPERUSER],
        )

    def shut_owner_out(self, name: str) -> None:
        """When its migrations are done, nobody signs in as the owner of a service's database until the next start."""
        owner = database_of(name).owner_role
        _run(databases.shut_out(self.admin_dsn, owner))
        self._secrets.forget(f"postgres_{owner}")

    def _url(self, scheme: str, user: str, password: str, database: str) -> str:
        return f"{scheme}://{user}:{password}@{LOOPBACK}:{self.port}/{database}"


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Runs it to its end in a thread of its own, so that callers with a running event loop may call us too."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
