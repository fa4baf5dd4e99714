"""One consumer on one stream, as who reads the stream and who watches it know it together."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from services.chassis.values.position import Position

# What is wrong, by what it is wrong with: the name of a stream, or of a stream and a consumer on it. Of a service,
# shared by all who look. Empty: all is well.
Faults = dict[str, list[str]]


class Missed(NamedTuple):
    """What a reader found missing."""

    at: Position
    what: str


class Hearing:
    """A service's consumer on a stream. It has handlers for these types of events, and passes all others over."""

    def __init__(self, consumer: str, stream: str, handlers: frozenset[str]) -> None:
        self.consumer, self.stream, self.handlers = consumer, stream, handlers
        self.title = f"{stream}.{consumer}"
        # As the log and the metrics name it.
        self.labels = {"consumer": consumer, "stream": stream}
        # From where it goes on; None as long as nothing may be taken. The database decides whether it is so still.
        self.place: Position | None = None
        self.missed: Missed | None = None
        # There may be something to read.
        self.news = asyncio.Event()
