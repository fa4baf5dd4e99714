"""The durable consumers that an installation has: those of the services, and those that fill the teams' copies.

Derived from the services' own SUBSCRIPTIONS and from the teams' file; nothing is listed twice.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nats.js.api import AckPolicy, ConsumerConfig

from deploy.teams import Copy, Team
from deploy.topology import SERVICE_NAMES
from services.chassis.events import durables, streams

if TYPE_CHECKING:  # whoever starts an instance waits for no service to be loaded
    from services.chassis.events.consumer import Subscription

_HEARTBEAT_SECONDS = 1  # what the server insists on


@dataclass(frozen=True)
class Consumer:
    """A durable consumer of a service on one stream. `subjects`: what its service has handlers for."""

    owner: str
    stream: str
    name: str
    subjects: tuple[str, ...]

    @property
    def position_subject(self) -> str:
        """Where its service says how far it has handled the stream."""
        return streams.position_subject(self.name, self.stream)

    @property
    def fault_subject(self) -> str:
        """Where its service says what it finds wrong with it."""
        return streams.fault_subject(self.name, self.stream)

    def configuration(self, handled: int = 0) -> ConsumerConfig:
        """`handled`: the last sequence of the stream that needs not come again."""
        return durables.configuration(self.name, self.subjects, handled)


def list_consumers() -> list[Consumer]:
    """Those that the services' subscriptions need."""
    return [
        consumer
        for service in SERVICE_NAMES
        for subscription in importlib.import_module(f"services.{service}.subscribers").SUBSCRIPTIONS
        for consumer in consumers_of(service, subscription)
    ]


def consumers_of(service: str, subscription: Subscription) -> list[Consumer]:
    """One consumer a stream, all of the durable's name."""
    by_stream = subscription.subjects_by_stream()
    return [Consumer(service, stream, subscription.durable, tuple(heard)) for stream, heard in by_stream.items()]


def list_copies(teams: Sequence[Team]) -> list[Copy]:
    return [copy for team in teams for copy in team.copies()]


def copying_consumer(copy: Copy) -> ConsumerConfig:
    """The consumer in EVENTS that passes a team what it may hear. Source: NATS ADR-58, durable stream mirroring."""
    return ConsumerConfig(
        name=copy.consumer,
        durable_name=copy.consumer,
        filter_subjects=list(copy.subjects),
        ack_policy=AckPolicy.FLOW_CONTROL,
        deliver_subject=copy.deliver_subject,
        flow_control=True,
        idle_heartbeat=_HEARTBEAT_SECONDS,
        max_ack_pending=10_000,  # acknowledgements come once a second
        max_deliver=-1,
    )


def write_consumers(file: Path, consumers: Sequence[Consumer]) -> None:
    """Remembers them for whoever must not load the services to know them."""
    file.write_text(json.dumps([asdict(consumer) for consumer in consumers], indent=2))


def read_consumers(file: Path) -> list[Consumer]:
    """What `write_consumers` wrote; nothing where there is no file."""
    if not file.exists():
        return []
    return [Consumer(**fields | {"subjects": tuple(fields["subjects"])}) for fields in json.loads(file.read_text())]
