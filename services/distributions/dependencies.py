"""What the service works with, put together once by `__main__` and handed to the edges."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.data.heard_persons import KnownParties
from services.chassis.data.operations import Operations
from services.distributions.clients import Peers

NAME = "distributions"


@dataclass(frozen=True, kw_only=True)
class Dependencies(Operations):
    """How this service reads and writes, and whom it asks."""

    peers: Peers

    @property
    def known_parties(self) -> KnownParties:
        return KnownParties(self.database, self.peers.compliance.batch_get_clearances)
