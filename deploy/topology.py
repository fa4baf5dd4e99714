"""What an installation consists of, as data: the one statement that every way of deploying it reads.

Services with their databases, roles, streams and ports; processes with the order they stop in and whom they call; the
users of NATS. Nothing here starts anything. Services and the gateway never import it: a process is
told its part in its environment.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.events.stored import Stream, stream_of_area


@dataclass(frozen=True)
class Database:
    """A database. `owner_role` runs its migrations; the service signs in as `app_role` for requests, each of one
    organization, and as `worker_role` for its work over all of them."""

    name: str
    owner_role: str
    app_role: str
    worker_role: str

    @property
    def roles(self) -> tuple[str, str, str]:
        return self.owner_role, self.app_role, self.worker_role


@dataclass(frozen=True)
class Service:
    """A service; what it owns is named after it.

    Args:
        name: Its package in `services`.
        calls: The services whose gRPC it calls.
        hears: The services whose events it hears: as its subscriptions say, which a test sees to.
    """

    name: str
    calls: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()

    @property
    def database(self) -> Database:
        return database_of(self.name)

    @property
    def stream(self) -> Stream:
        """The stream of the events it publishes, and nobody else does."""
        return stream_of_area(self.name)


def database_of(name: str) -> Database:
    """The names that go with a database; tests make further ones by the same rule."""
    return Database(f"realco_{name}", f"{name}_owner", f"{name}_app", f"{name}_worker")


# The one order of services, wherever they are listed.
SERVICES = (
    Service("transactions", calls=("escrow", "distributions", "compliance"), hears=("escrow", "compliance")),
    Service("escrow", calls=("transactions", "distributions", "compliance"), hears=("transactions",)),
    Service(
        "distributions",
        calls=("transactions", "escrow", "compliance"),
        hears=("transactions", "escrow", "compliance"),
    ),
    Service("compliance", calls=("transactions", "escrow", "distributions"), hears=("transactions",)),
)
SERVICE_NAMES = tuple(service.name for service in SERVICES)

STREAMS = tuple(service.stream for service in SERVICES)


@dataclass(frozen=True)
class Process:
    """A program of ours that keeps running.

    Args:
        name: Names its port, too.
        module: What `python -m` runs.
        wave: Waves stop one after the other, the last first, so that nobody calls a process that is already gone.
        health_path: What answers 200 over HTTP when it serves; None: it has gRPC's own health service.
        stop_seconds: How long it may take to end in good order.
        calls: The services it calls.
        has_metrics: It serves Prometheus metrics on a port of their own.
    """

    name: str
    module: str
    wave: int
    health_path: str | None
    stop_seconds: float
    calls: tuple[str, ...] = ()
    has_metrics: bool = True


GATEWAY, BANK = "gateway", "bank"
PROCESSES = (
    Process(BANK, "sandbox.bank", 1, "/healthz", 2, has_metrics=False),
    *(Process(service.name, f"services.{service.name}", 2, None, 4, service.calls) for service in SERVICES),
    Process(GATEWAY, "gateway", 3, "/readyz", 2, calls=SERVICE_NAMES),
)
# The servers that the processes need, and that an installation may have already.
SERVERS = ("postgres", "nats")
PROCESS_NAMES = (*SERVERS, *(process.name for process in PROCESSES))
METRICS_PORTS = tuple(f"{process.name}_metrics" for process in PROCESSES if process.has_metrics)
# Ports that only the installation itself uses. The gateway's is the one that people choose.
INNER_PORTS = (*(process.name for process in PROCESSES if process.name != GATEWAY), *METRICS_PORTS)


# Users of NATS; each has an account of its own, and nats_accounts.py says what crosses between them. Teams
# outside have further ones: teams.py says which. One of them is there always, for the documentation and the demo.
PROVISIONER, SUBSCRIBER = "provisioner", "subscriber"
NATS_USER_NAMES = (*SERVICE_NAMES, GATEWAY, PROVISIONER, SUBSCRIBER)
