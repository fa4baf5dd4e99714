"""How the local instance runs and asks the processes of the topology, and the programs that prepare for them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from deploy.local.channels import credentials_of
from deploy.local.identity import Identity
from deploy.local.readiness import grpc_serves, http_answers
from deploy.topology import Process


def command_of(process: Process) -> list[str]:
    return [sys.executable, "-m", process.module]


def readiness_of(process: Process, identity: Identity) -> Callable[[int], bool]:
    """Given its port: whether the process serves."""
    if process.health_path is not None:
        return partial(http_answers, path=process.health_path)
    return partial(grpc_serves, service=process.name, credentials=credentials_of(identity))


def migration_command(service: str) -> list[str]:
    return [sys.executable, "-m", "services.chassis.data.migrate", service]


def provision_command() -> list[str]:
    return [sys.executable, "-m", "deploy.provision"]
