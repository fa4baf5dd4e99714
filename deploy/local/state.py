"""What is known about a running instance, in DATA_DIR: which process runs it (a lock), what it started (instance.json).

- The kernel releases the lock when the supervisor ends, for whatever reason, so it is never left behind. Its file names
  the process that holds it: instance.json may still describe an earlier one, and setting the clock changes its times.
- instance.json is replaced in one step. It names a process by its id and its start time, for ids are used again.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from deploy.local.programs import CannotStart
from deploy.secrets import private_folder, write_private


class AlreadyRunning(CannotStart):
    """Another supervisor holds this DATA_DIR."""


class State:
    """The lock and the file of one DATA_DIR."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = Path(data_dir).resolve()
        self._file = self.data_dir / "instance.json"
        self._lock_file = self.data_dir / "instance.lock"
        self._lock: int | None = None

    def read(self) -> dict[str, Any]:
        """What the supervisor wrote last; empty if none ever ran."""
        try:
            return dict(json.loads(self._file.read_text()))
        except FileNotFoundError:
            return {}

    def write(self, **known: Any) -> None:
        write_private(self._file, json.dumps(known, indent=2))

    def lock(self) -> None:
        """Raises: AlreadyRunning, which says where the other one is and what to do."""
        private_folder(self.data_dir)
        handle = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            holder, known = self.find_holder(), self.read()
            its_own = holder is not None and known.get("supervisor", {}).get("pid") == holder.pid
            raise AlreadyRunning(
                f"An instance already runs in {self.data_dir}: process {holder.pid if holder else '?'}, "
                f"{known['base_url'] if its_own else 'still starting'}.\n"
                "Use that one, stop it with `make stop`, or start another beside it with DATA_DIR=… PORT=…"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        self._lock = handle

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_locked_by_another(self) -> bool:
        try:
            handle = os.open(self._lock_file, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def find_holder(self) -> psutil.Process | None:
        """The process that holds the lock: the one the file names, if it really has that file open."""
        with suppress(FileNotFoundError, ValueError, psutil.Error):
            process = psutil.Process(int(self._lock_file.read_text()))
            if any(file.path == str(self._lock_file) for file in process.open_files()):
                return process
        return None


def describe_process(pid: int | None) -> dict[str, Any]:
    """A process as instance.json describes it."""
    try:
        return {"pid": pid, "created": psutil.Process(pid).create_time()} if pid else {}
    except psutil.NoSuchProcess:
        return {}


def find_process(description: dict[str, Any]) -> psutil.Process | None:
    """That very process, if it still runs."""
    try:
        process = psutil.Process(description["pid"])
        same = abs(process.create_time() - description["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        return process if same else None
    except (KeyError, psutil.NoSuchProcess):
        return None


def end_leftovers(known: dict[str, Any], seconds: float = 10.0) -> list[str]:
    """Ends what a killed supervisor left running, and returns the names. It asks first, and kills after that time."""
    left = {
        name: process
        for name, description in known.get("processes", {}).items()
        if (process := find_process(description)) is not None
    }
    for name, process in left.items():
        with suppress(psutil.NoSuchProcess):  # it ended by itself: its parent was killed just now
            # PostgreSQL's SIGTERM waits for its clients; SIGINT does not.
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
    deadline = time.monotonic() + seconds
    _, stubborn = psutil.wait_procs(left.values(), timeout=max(0.0, deadline - time.monotonic()))
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=5)
    return sorted(left)
