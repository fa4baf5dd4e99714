"""An instance with real PostgreSQL and NATS whose other processes are stand-ins; the arguments of `deploy.local run`.

`stand_ins.json` in its DATA_DIR may name another kind of stand-in (see stand_in.py) for a process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deploy.local.channels import credentials_of
from deploy.local.configuration import Configuration, External
from deploy.local.identity import Identity
from deploy.local.programs import CannotStart
from deploy.local.progress import PlainProgress
from deploy.local.readiness import grpc_serves, http_answers
from deploy.local.supervisor import Supervisor
from deploy.topology import Process


class StandIns:
    """What runs in the place of each process. Escrow speaks gRPC, the others HTTP: they start faster."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self._kinds = {"escrow": "grpc"} | kinds

    def command(self, process: Process) -> list[str]:
        return [sys.executable, "-m", "tests.support.stand_in", self._kinds.get(process.name, "http")]

    def readiness(self, process: Process, identity: Identity) -> Callable[[int], bool]:
        if self._kinds.get(process.name) == "grpc":
            return partial(grpc_serves, service=process.name, credentials=credentials_of(identity))
        return partial(http_answers, path="/")


def nothing(*_: str) -> list[str]:
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
    stand_ins = StandIns(json.loads(chosen.read_text()) if chosen.exists() else {})
    try:
        supervisor = Supervisor(
            given.data_dir,
            given.port,
            command=stand_ins.command,
            readiness=stand_ins.readiness,
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
