"""An instance with real PostgreSQL and NATS whose other processes are stand-ins; the arguments of `deploy.local run`.

`stand_ins.json` in its DATA_DIR may name another kind of stand-in (see stand_in.py) for a process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from deploy.local.configuration import Configuration, External
from deploy.local.processes import PROCESSES, Process
from deploy.local.programs import CannotStart
from deploy.local.progress import PlainProgress
from deploy.local.readiness import http_answers
from deploy.local.supervisor import Supervisor


def stand_in(process: Process, kinds: dict[str, str]) -> Process:
    """Escrow speaks gRPC, the others HTTP: they start faster."""
    kind = kinds.get(process.name, "grpc" if process.name == "escrow" else "http")
    ready = process.ready if kind == "grpc" else partial(http_answers, path="/")
    return replace(process, module="tests.support.stand_in", arguments=(kind,), ready=ready)


def nothing(argument: str) -> list[str]:
    return [sys.executable, "-S", "-c", "pass"]


def announce(configuration: Configuration, seconds: float) -> None:
    print(f"ready in {seconds:.1f} s at {configuration.base_url}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    chosen = given.data_dir / "stand_ins.json"
    kinds = json.loads(chosen.read_text()) if chosen.exists() else {}
    processes = [stand_in(process, kinds) for process in PROCESSES]
    try:
        supervisor = Supervisor(
            given.data_dir,
            given.port,
            processes=processes,
            migration=nothing,
            provisioning=nothing,
            external=External(),
        )
        asyncio.run(supervisor.run(PlainProgress(sys.stdout), announce))
    except CannotStart as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
