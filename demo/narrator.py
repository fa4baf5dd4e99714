"""Tells the story as it goes: a spinner and marks on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_PLAIN_WIDTH = 132


class Outcome:
    """What a step led to, and its business date; filled in while the step runs."""

    def __init__(self) -> None:
        self.text = ""
        self.day = ""


class Narrator:
    """Writes to one stream."""

    def __init__(self, out: TextIO) -> None:
        terminal = out.isatty()
        self._console = Console(file=out, highlight=False, width=None if terminal else _PLAIN_WIDTH)
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the story has taken so far."""
        return time.monotonic() - self._began

    def say(self, text: str, style: str = "") -> None:
        self._console.print(escape(text), style=style, soft_wrap=True)

    def show(self, table: Table) -> None:
        self._console.print()
        self._console.print(table)

    @contextmanager
    def tell_step(self, title: str) -> Iterator[Outcome]:
        """Prints one line when the step is done. If it fails, the line says so, and the exception goes on."""
        outcome = Outcome()
        began = time.monotonic()
        try:
            with self._console.status(escape(title)):
                yield outcome
        except BaseException:
            self.say(f"✗ {title}", "bold red")
            raise
        first, *more = escape(outcome.text).split("\n")
        seconds = f"[dim]({time.monotonic() - began:.1f} s)[/dim]"
        day = f"[dim]{outcome.day:10}[/dim]"
        lines = [f"[green]✓[/green] {day}  {escape(title)}: {first} {seconds}", *more]
        self._console.print("\n".join(lines), soft_wrap=True)
