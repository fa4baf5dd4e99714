"""How the local instance runs and asks the processes of the topology, and the programs that prepare for them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from deploy.local.readiness import grpc_serves, http_answers
from deploy.topology import Process


def command_of(process: Process) -> list[str]:
    return [sys.executable, "-m", process.module]


def readiness_of(process: Process) -> Callable[[int], bool]:
    """Given its port: whether the process serves."""
    return grpc_serves if process.health_path is None else partial(http_answers, path=process.health_path)


def migration_command(service: str) -> list[str]:
    return [sys.executable, "-m", "services.chassis.data.migrate", service]


def provision_command(consumers_file: str) -> list[str]:
    return [sys.executable, "-m", "deploy.provision", "--consumers", consumers_file]
