"""How far a service has handled a stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lives:
    """Which database and which stream a position is of: after a restore or a loss another one has the name."""

    incarnation: str = ""
    stream_created: str = ""  # word for word as the server says it


@dataclass(frozen=True, slots=True)
class Position:
    """The last message of a stream that was handled: its number in the stream, and among the deliveries of the
    consumer; and the number of the delivery that a process of ours is working on, if it has been for a while.
    """

    stream_sequence: int = 0
    consumer_sequence: int = 0
    held_sequence: int = 0
    lives: Lives = Lives()

    def tell(self) -> str:
        """For whoever makes consumers, on this stream and on no other of its name."""
        return f"{self.stream_sequence} {self.lives.stream_created}"
