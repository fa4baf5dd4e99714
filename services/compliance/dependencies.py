"""What the service works with, put together once by `__main__` and handed to the edges."""

from __future__ import annotations

from services.chassis.data.operations import Operations

NAME = "compliance"


class Dependencies(Operations):
    """How this service reads and writes. It asks nobody: what it decides on is its own."""
