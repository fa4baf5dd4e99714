"""The sandbox bank as a process of its own, for tests of what talks to it."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
WEBHOOK_SECRET = "the-secret-of-these-tests"


class SandboxProcess:
    """Where it listens, and its clock."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.clock_file = folder / "clock.json"

    def travel(self, to: datetime) -> None:
        offset = math.ceil((to - datetime.now(UTC)).total_seconds())
        fresh = self.clock_file.with_suffix(".new")
        fresh.write_text(json.dumps({"offset_seconds": offset}))
        fresh.replace(self.clock_file)


@contextmanager
def sandbox_bank(folder: Path, now: datetime, webhook_url: str = "") -> Iterator[SandboxProcess]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    bank = SandboxProcess(folder, port)
    bank.travel(now)
    environment = os.environ | {
        "SANDBOX_BANK_PORT": str(port),
        "SANDBOX_BANK_DATABASE": str(folder / "bank.sqlite"),
        "SANDBOX_BANK_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "CLOCK_FILE": str(bank.clock_file),
    }
    if webhook_url:
        environment["SANDBOX_BANK_WEBHOOK_URL"] = webhook_url
    process = subprocess.Popen([sys.executable, "-m", "sandbox.bank"], cwd=ROOT, env=environment)
    try:
        _wait_until_up(process, bank.url)
        yield bank
    finally:
        process.kill()
        process.wait(10)


def _wait_until_up(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the bank died at start"
        assert time.monotonic() < deadline, "the bank did not start in time"
        try:
            if httpx.get(f"{url}/healthz", trust_env=False, verify=False, timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
