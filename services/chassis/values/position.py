"""How far a service has handled a stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """The last message of a stream that was handled: its number there.

    Args:
        incarnation: Of which life of the database it is.
        stream_created: Of which stream: after a loss another one has the name. Word for word as the server says it.
        stored_at: When the stream stored that message, word for word as the server says it: by that it is known again.
            Empty where nobody has seen it: at the beginning, and where a person decided on the number.
        handlers: The types of events that the release handles which went on to there. It passed all others over.
    """

    stream_sequence: int
    incarnation: str
    stream_created: str
    handlers: frozenset[str] = frozenset()
    stored_at: str = ""
