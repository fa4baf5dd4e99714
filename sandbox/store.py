"""The books of a stand-in: one SQLite file; a change is on disk before its answer leaves (WAL, synchronous=FULL).

One connection, used from the event loop's thread only; a transaction never awaits, so transactions are serial.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

# What webhooks.py delivers; `about` is what an event is about.
_EVENTS = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    about TEXT NOT NULL,
    type TEXT NOT NULL,
    body BLOB NOT NULL,
    deliveries_left INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS events_to_deliver ON events (next_attempt_ms) WHERE deliveries_left > 0;
"""


class Store:
    """
    Args:
        schema: Its tables, beside the events that it tells.
    """

    def __init__(self, path: Path, schema: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=5)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(schema + _EVENTS)
        self._listeners: list[asyncio.Event] = []

    def listen(self) -> asyncio.Event:
        """Set from now on by each transaction, for who waits for what it leaves to do."""
        self._listeners.append(asyncio.Event())
        return self._listeners[-1]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Must not be nested, and nothing inside may await."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        for changed in self._listeners:
            changed.set()

    def execute(self, statement: str, *parameters: object) -> int:
        """Runs one statement and says how many rows it changed."""
        return self._connection.execute(statement, parameters).rowcount

    def insert(self, table: str, **values: object) -> None:
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        # Table and column names are words of this program; values travel as parameters.
        self._connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values()))  # noqa: S608

    def one(self, query: str, *parameters: object) -> dict[str, Any] | None:
        row = self._connection.execute(query, parameters).fetchone()
        return None if row is None else dict(row)

    def all(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(query, parameters)]

    def close(self) -> None:
        self._connection.close()


def format_time(moment: datetime) -> str:
    """A time as stored and shown: UTC, always six decimals, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def day_of(text: str) -> date:
    return parse_time(text).date()
