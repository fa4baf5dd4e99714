"""What the stand-in keeps: its objects, what becomes due, and what it tells. A change is the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from sandbox.plaid.answers import PlaidRefusal, now_ms
from sandbox.store import Store

OBJECTS = """
CREATE TABLE IF NOT EXISTS objects (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    unique_key TEXT UNIQUE,
    body TEXT NOT NULL,
    due_ms INTEGER
);
CREATE INDEX IF NOT EXISTS objects_due ON objects (due_ms) WHERE due_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS transfer_events (
    event_id INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL
);
"""


class Books:
    def __init__(self, store: Store) -> None:
        self._store = store

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing."""
        return self._store.transaction()

    def find(self, object_id: object, kind: str) -> dict[str, Any] | None:
        row = self._store.one("SELECT body FROM objects WHERE id = ? AND kind = ?", str(object_id), kind)
        return None if row is None else json.loads(row["body"])

    def require(self, object_id: object, kind: str) -> dict[str, Any]:
        """Raises: PlaidRefusal."""
        found = self.find(object_id, kind)
        if found is None:
            raise not_there(kind)
        return found

    def find_by_key(self, unique_key: str) -> dict[str, Any] | None:
        row = self._store.one("SELECT body FROM objects WHERE unique_key = ?", unique_key)
        return None if row is None else json.loads(row["body"])

    def forget_key(self, unique_key: str) -> None:
        self._store.execute("UPDATE objects SET unique_key = NULL WHERE unique_key = ?", unique_key)

    def list_all(self, kind: str) -> list[dict[str, Any]]:
        """Newest first."""
        rows = self._store.all("SELECT body FROM objects WHERE kind = ? ORDER BY sequence DESC", kind)
        return [json.loads(row["body"]) for row in rows]

    def find_due_ms(self, object_id: str) -> int | None:
        row = self._store.one("SELECT due_ms FROM objects WHERE id = ?", object_id)
        return None if row is None else row["due_ms"]

    def make(
        self,
        object_id: str,
        kind: str,
        body: Mapping[str, Any],
        unique_key: str | None = None,
        due_ms: int | None = None,
    ) -> None:
        self._store.insert(
            "objects", id=object_id, kind=kind, unique_key=unique_key, body=json.dumps(body), due_ms=due_ms
        )

    def save(self, object_id: str, body: Mapping[str, Any], due_ms: int | None = None) -> None:
        statement = "UPDATE objects SET body = ?, due_ms = ? WHERE id = ?"
        self._store.execute(statement, json.dumps(body), due_ms, object_id)

    def list_due(self) -> list[tuple[str, dict[str, Any]]]:
        """(kind, object) of some whose time has come."""
        query = "SELECT kind, body FROM objects WHERE due_ms IS NOT NULL AND due_ms <= ? ORDER BY due_ms LIMIT 50"
        return [(row["kind"], json.loads(row["body"])) for row in self._store.all(query, now_ms())]

    def find_next_due_ms(self) -> int | None:
        row = self._store.one("SELECT min(due_ms) AS due_ms FROM objects WHERE due_ms IS NOT NULL")
        return None if row is None else row["due_ms"]

    def tell(self, event: Mapping[str, Any]) -> None:
        """Adds an event of a transfer, behind all others."""
        self._store.insert("transfer_events", body=json.dumps(event))

    def send(self, event_id: str, about: str, event_type: str, body: bytes) -> None:
        """Has a webhook delivered, once this transaction is over."""
        self._store.insert(
            "events",
            id=event_id,
            about=about,
            type=event_type,
            body=body,
            deliveries_left=1,
            next_attempt_ms=now_ms(),
        )

    def list_events(self, after_id: int, count: int) -> tuple[list[dict[str, Any]], bool]:
        """Those after another one, oldest first, and whether there are more."""
        query = "SELECT * FROM transfer_events WHERE event_id > ? ORDER BY event_id LIMIT ?"
        rows = self._store.all(query, after_id, count + 1)
        return [json.loads(row["body"]) | {"event_id": row["event_id"]} for row in rows[:count]], len(rows) > count


def not_there(kind: str) -> PlaidRefusal:
    return PlaidRefusal(404, "INVALID_REQUEST", "NOT_FOUND", f"the {kind} is not there")
