"""One program that we started: its log, its death and its end.

- Runs in a session of its own (a Ctrl-C at the terminal reaches the supervisor alone) with only the
  environment it was given.
- Ends with the process that started it, as far as the system can promise that (see child.py).
- `stop` asks it to end, waits, then kills its whole process group; it is never left running.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from deploy.secrets import private_folder

ROOT = Path(__file__).resolve().parents[2]
_CHILD = Path(__file__).with_name("child.py")
# What a program may inherit: where to find things and how to write text, and nothing else of the user's shell.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class CannotStart(Exception):
    """The message is for the person at the terminal: what is wrong, and what to do about it."""


class ProgramFailed(CannotStart):
    """A program ended or hung before it was ready; the message carries the end of its log."""


def base_environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {"TZ": "UTC", "PYTHONUNBUFFERED": "1"}


def wrap_command(
    command: Sequence[str], *, orphan_signal: int = signal.SIGKILL, identity: str | None = None
) -> list[str]:
    """The command line that runs `command` through child.py."""
    wrapper = [sys.executable, "-I", "-S", str(_CHILD)]
    # The kernel watches the starting *thread*: only the main thread lasts as long as the process.
    if threading.current_thread() is threading.main_thread():
        wrapper += ["--parent", str(os.getpid()), "--signal", str(int(orphan_signal))]
    if identity:
        wrapper += ["--as", identity]
    return [*wrapper, "--", *command]


@dataclass(eq=False)
class Program:
    """What to run and how to end it; `start` may be called again after it died."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 10.0
    orphan_signal: int = signal.SIGKILL
    identity: str | None = None
    cwd: Path = ROOT
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _log_start: int = field(default=0, init=False, repr=False)

    def start(self) -> None:
        private_folder(self.log.parent)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                wrap_command(self.command, orphan_signal=self.orphan_signal, identity=self.identity),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=base_environment() | dict(self.environment),
                cwd=self.cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def read_end_of_log(self, lines: int = 20) -> str:
        """The last lines it wrote since it was last started."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read()[-20_000:].decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    async def wait_until_ended(self, poll_seconds: float) -> int:
        """Waits until it ended, and returns its status. It is asked again and again where the system does not tell."""
        if self._process is not None and self.running:
            with suppress(AttributeError, OSError):  # another system than Linux, or one that lacks it
                await _wait_until_readable(os.pidfd_open(self._process.pid))
        while self.running:  # noqa: ASYNC110
            await asyncio.sleep(poll_seconds)
        return self.exit_code or 0

    def stop(self) -> None:
        """Asks it to end, waits, then kills it."""
        self.signal(self.stop_signal)
        if not self.wait(self.stop_seconds):
            self.kill_group()

    def kill_group(self) -> None:
        """Ends it and all of its process group at once, as a power cut would."""
        if self._process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait(5.0)

    def make_failure(self, what: str) -> ProgramFailed:
        return ProgramFailed(f"{self.name} {what}. The end of {self.log}:\n{self.read_end_of_log()}")


async def _wait_until_readable(descriptor: int) -> None:
    loop, is_readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, is_readable.set)
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def wait_until_ready(program: Program, ready: Callable[[], bool], seconds: float) -> None:
    """Waits for `ready()` to be true. Raises: ProgramFailed if the program ends first or takes longer."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not program.running:
            raise program.make_failure(f"ended with status {program.exit_code} before it was ready")
        if time.monotonic() > deadline:
            raise program.make_failure(f"was not ready after {seconds:g} s")
        time.sleep(0.01)
