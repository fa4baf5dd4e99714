"""How far a service has handled a stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """The last message of a stream that was handled: its number in the stream, and among the deliveries of the
    consumer; and the number of the delivery that a process of ours is working on, if it has been for a while.
    """

    stream_sequence: int = 0
    consumer_sequence: int = 0
    held_sequence: int = 0
