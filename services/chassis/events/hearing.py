"""One consumer on one stream, as who reads the stream and who watches it know it together."""

from __future__ import annotations

import asyncio
import time
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
        # What the database says, as far as this process knows: behind the place by nothing but what was passed over.
        self.written: Position | None = None
        self._behind_since = 0.0
        self.missed: Missed | None = None
        # There may be something to read.
        self.news = asyncio.Event()

    def stand(self, written: Position | None) -> None:
        """It goes on from where the database has it."""
        self.place = self.written = written

    def pass_over(self, place: Position) -> None:
        """It goes on from there, and the database need not know yet: after a crash as much is passed over again."""
        if self.place == self.written:
            self._behind_since = time.monotonic()
        self.place = place

    @property
    def is_behind(self) -> bool:
        """Whether the database has it at an earlier message."""
        return self.place != self.written

    def is_far_behind(self, messages: int, seconds: float) -> bool:
        """By so many messages, or for so long."""
        if self.place is None or self.written is None or not self.is_behind:
            return False
        passed = self.place.stream_sequence - self.written.stream_sequence
        return passed >= messages or time.monotonic() - self._behind_since >= seconds
