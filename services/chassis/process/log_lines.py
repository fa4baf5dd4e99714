"""Lines of the log, written together a moment later: a write for each of them costs more than to make it.

They stay in their order. What is wrong is written at once, with all that waits; so is what comes while no event loop
runs, and what waits when the process ends.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import sys
import threading

_TOGETHER_SECONDS = 0.05


class Lines:
    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()
        self._writing_in: asyncio.AbstractEventLoop | None = None
        atexit.register(self.write)

    def add(self, line: bytes) -> None:
        """Writes the line within a moment."""
        self._waiting.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write()
            return
        if self._writing_in is not loop:
            self._writing_in = loop
            loop.call_later(_TOGETHER_SECONDS, self.write)

    def write(self) -> None:
        """Writes all that waits."""
        with self._lock:
            self._writing_in = None
            lines, self._waiting = self._waiting, []
            if lines:
                sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
                sys.stdout.buffer.flush()

    def add_urgent(self, line: bytes) -> None:
        self._waiting.append(line)
        self.write()


class LineLogger:
    """What structlog hands its lines to."""

    def __init__(self, lines: Lines) -> None:
        self.msg = self.debug = self.info = lines.add
        self.warning = self.error = self.critical = self.exception = lines.add_urgent


class LineHandler(logging.Handler):
    """What the libraries we use hand theirs to: they have nothing to say but of something that is wrong."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.add_urgent(self.format(record).encode())
        except Exception:  # as every handler does: whoever logs is not to fail by it
            self.handleError(record)
