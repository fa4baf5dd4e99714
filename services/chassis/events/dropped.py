"""Messages of NATS that nobody asked for, or that came faster than they are taken: they are dropped, and told of."""

from __future__ import annotations

import time

from services.chassis.process.telemetry import MESSAGES_DROPPED, log

_TELL_SECONDS = 60.0


class Dropped:
    """What was dropped, by where it came to: a line in the log for each, at most once a minute."""

    def __init__(self) -> None:
        self._begun_at: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def note(self, place: str, few: int = 0) -> None:
        """One more.

        Args:
            place: The subject that we hear, or what several of them are for.
            few: So many in a minute are as it should be, and not told.
        """
        MESSAGES_DROPPED.labels(place).inc()
        now = time.monotonic()
        if now - self._begun_at.get(place, -_TELL_SECONDS) >= _TELL_SECONDS:
            self._begun_at[place], self._counts[place] = now, 0
        self._counts[place] += 1
        if self._counts[place] == few + 1:
            log.warning("messages_dropped", place=place)
