"""Shows what is happening: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


def tell(out: TextIO, text: str) -> None:
    """Writes it at once. A reader that has gone (a closed terminal, `| head`, `| tee` after Ctrl-C) does no harm."""
    try:
        print(text, file=out, flush=True)
    except OSError:
        with suppress(OSError, ValueError):  # what is in the buffer would be tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def replace_unencodable(*streams: TextIO) -> None:
    """A terminal with an old encoding shows a question mark for what it cannot show, and the start goes on."""
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


class Progress(Protocol):
    """The steps of a start, and single lines at any time."""

    def __enter__(self) -> Progress: ...
    def __exit__(self, *_: object) -> None: ...
    def started(self, step: str) -> None: ...
    def done(self, step: str, note: str = "") -> None: ...
    def failed(self, step: str) -> None: ...
    def say(self, line: str) -> None: ...


class PlainProgress:
    """A line when a step is done: for logs and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._started: dict[str, float] = {}

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, step: str) -> None:
        self._started[step] = time.monotonic()

    def done(self, step: str, note: str = "") -> None:
        self.say(f"{step}: {note or 'ready'} ({self._seconds(step):.1f} s)")

    def failed(self, step: str) -> None:
        self.say(f"{step}: FAILED ({self._seconds(step):.1f} s)")

    def say(self, line: str) -> None:
        tell(self._out, line)

    def _seconds(self, step: str) -> float:
        return time.monotonic() - self._started.get(step, time.monotonic())


class LiveProgress:
    """All steps at once, each with a spinner while it runs: for terminals."""

    def __init__(self, console: Console, steps: Sequence[str]) -> None:
        self._console = console
        self._started: dict[str, float] = {}
        self._marks: dict[str, tuple[Text | Spinner, str]] = {step: (Text("·", style="dim"), "") for step in steps}
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=10)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, step: str) -> None:
        self._started[step] = time.monotonic()
        self._marks[step] = (Spinner("dots"), "")

    def done(self, step: str, note: str = "") -> None:
        self._marks[step] = (Text("✓", style="green"), f"{self._seconds(step):.1f} s  {note}")

    def failed(self, step: str) -> None:
        self._marks[step] = (Text("✗", style="bold red"), f"{self._seconds(step):.1f} s")

    def say(self, line: str) -> None:
        with suppress(OSError):  # the terminal was closed
            self._console.print(line, highlight=False, markup=False)

    def _seconds(self, step: str) -> float:
        return time.monotonic() - self._started[step]

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for step, (mark, note) in self._marks.items():
            table.add_row(mark, step, Text(note, style="dim"))
        return table


def make_progress(out: TextIO, steps: Sequence[str]) -> Progress:
    console = Console(file=out)
    return LiveProgress(console, steps) if out.isatty() and not console.is_dumb_terminal else PlainProgress(out)
