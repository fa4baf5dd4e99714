"""The table of our own processes: what runs, and how to see that it serves.

They start together; they stop wave by wave, the last first, so that nobody is asked by those who are already gone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from deploy.local.configuration import SERVICES
from deploy.local.readiness import grpc_serves, http_answers

Ready = Callable[[int], bool]


@dataclass(frozen=True)
class Process:
    """One line of the table. `ready` is given the port of the same name; `stop_seconds` is for ending in good order."""

    name: str
    module: str
    wave: int
    ready: Ready
    stop_seconds: float
    arguments: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return [sys.executable, "-m", self.module, *self.arguments]


# fmt: off
PROCESSES = (
    #       name             module                 wave  serves when it answers                 stops within, s
    Process("bank",          "sandbox.bank",           1, partial(http_answers, path="/healthz"), 2),
    Process("compliance",    "services.compliance",    2, grpc_serves,                            4),
    Process("escrow",        "services.escrow",        2, grpc_serves,                            4),
    Process("transactions",  "services.transactions",  2, grpc_serves,                            4),
    Process("distributions", "services.distributions", 2, grpc_serves,                            4),
    Process("gateway",       "gateway",                3, partial(http_answers, path="/readyz"),  2),
)
# fmt: on

# Every port the instance chooses; the gateway's is the one that people choose.
INNER_PORTS = ("bank", *SERVICES, *(f"{name}_metrics" for name in (*SERVICES, "gateway")))


def migration_command(service: str) -> list[str]:
    return [sys.executable, "-m", "services.chassis.data.migrate", service]


def provision_command(durables_file: str) -> list[str]:
    return [sys.executable, "-m", "deploy.provision", "--durables", durables_file]
