"""Business time, as a parameter: nothing in the house asks the machine for the date.

Tokens, signatures, TLS and back-off use system time instead. Order never depends on any clock.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

# How far the time that a service writes may be from that of its database. More is a wrong clock, or somebody's lie.
CLOCK_ERROR_SECONDS_MAX = 300


class Clock:
    """What time it is for the business. All times are aware and in UTC."""

    def now(self) -> datetime:
        raise NotImplementedError

    def today(self) -> date:
        """The UTC date of `now`."""
        return self.now().date()


class SystemClock(Clock):
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FileClock(Clock):
    """System time plus the offset in a JSON file `{"offset_seconds": N}`; system time while the file is absent.

    Lets a local instance travel through banking days. The writer replaces the file atomically.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.read_offset()

    def read_offset(self) -> timedelta:
        """By how much it is ahead of the machine's clock."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return timedelta()
        seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if seen != self._seen:
            self._offset = timedelta(seconds=int(json.loads(self._path.read_text())["offset_seconds"]))
            self._seen = seen
        return self._offset


class FakeClock(Clock):
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def set(self, now: datetime) -> None:
        self._now = now

    def advance(self, by: timedelta) -> None:
        self._now += by


class ClockSettings(Protocol):
    """The part of the settings that chooses the clock."""

    @property
    def clock_file(self) -> Path | None: ...


def clock_from(settings: ClockSettings) -> Clock:
    """The clock of a process: the machine's, unless CLOCK_FILE names a test clock."""
    return SystemClock() if settings.clock_file is None else FileClock(settings.clock_file)
