"""What the service works with, put together once by `__main__` and handed to the edges."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.data.operations import Operations
from services.compliance.clients import Peers
from services.compliance.key_tokens import KeyTokens

NAME = "compliance"


@dataclass(frozen=True, kw_only=True)
class Dependencies(Operations):
    """How this service reads and writes, and whom it asks."""

    key_tokens: KeyTokens
    peers: Peers
