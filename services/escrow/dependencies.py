"""What the service works with, put together once by `__main__` and handed to the edges."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.chassis.data.operations import Operations
from services.chassis.events.hearing import Faults
from services.escrow.clients import Peers
from services.escrow.posting.group_commit import Poster

NAME = "escrow"


@dataclass(frozen=True, kw_only=True)
class Dependencies(Operations):
    """How this service reads and writes, its one way into the book, and whom it asks."""

    poster: Poster
    peers: Peers
    # What is wrong with the book: as long as there is any, the service is not ready.
    faults: Faults = field(default_factory=dict)
