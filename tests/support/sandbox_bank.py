"""The sandbox bank as a process of its own, for tests of what talks to it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.support.stand_ins import WEBHOOK_SECRET, find_free_port, run_stand_in


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
    port = find_free_port()
    bank = SandboxProcess(folder, port)
    bank.travel(now)
    environment = {
        "SANDBOX_BANK_PORT": str(port),
        "SANDBOX_BANK_DATABASE": str(folder / "bank.sqlite"),
        "SANDBOX_BANK_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "CLOCK_FILE": str(bank.clock_file),
    }
    if webhook_url:
        environment["SANDBOX_BANK_WEBHOOK_URL"] = webhook_url
    with run_stand_in("sandbox.bank", port, environment):
        yield bank
