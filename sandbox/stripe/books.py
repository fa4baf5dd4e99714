"""What the stand-in keeps: its objects, what becomes due, and the events that tell of them.

A change and its events are one transaction, the caller's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sandbox.store import Store
from sandbox.stripe.answers import StripeRefusal, encode, now_ms

OBJECTS = """
CREATE TABLE IF NOT EXISTS objects (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    due_ms INTEGER
);
CREATE INDEX IF NOT EXISTS objects_due ON objects (due_ms) WHERE due_ms IS NOT NULL;
"""
_KINDS = {"latest_charge": "charge", "failure_balance_transaction": "balance_transaction"}


class Books:
    def __init__(self, store: Store) -> None:
        self._store = store

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing."""
        return self._store.transaction()

    def require(self, object_id: str, kind: str) -> dict[str, Any]:
        row = self._store.one("SELECT body FROM objects WHERE id = ? AND kind = ?", object_id, kind)
        if row is None:
            raise StripeRefusal(
                404, "invalid_request_error", f"No such {kind}: '{object_id}'", code="resource_missing", param="id"
            )
        found: dict[str, Any] = json.loads(row["body"])
        return found

    def list_objects(self, kind: str, **wanted: str | None) -> list[dict[str, Any]]:
        """Newest first: those whose fields are as wanted, where that is not None."""
        rows = self._store.all("SELECT body FROM objects WHERE kind = ? ORDER BY sequence DESC", kind)
        found = [json.loads(row["body"]) for row in rows]
        return [each for each in found if all(value in (None, each.get(name)) for name, value in wanted.items())]

    def search(self, kind: str, terms: Mapping[str, str]) -> list[dict[str, Any]]:
        """Newest first.

        Args:
            terms: `status`, and metadata by `metadata.<name>`.
        """
        return [
            each for each in self.list_objects(kind) if all(_find(each, name) == value for name, value in terms.items())
        ]

    def show(self, found: Mapping[str, Any], expand: Sequence[str] = ()) -> dict[str, Any]:
        """As the API shows it, with what is to be expanded in place of its id."""
        shown = {name: value for name, value in found.items() if not name.startswith("_")}
        wanted: dict[str, list[str]] = {}
        for path in expand:
            name, _, inner = path.partition(".")
            wanted.setdefault(name, []).extend([inner] if inner else [])
        for name, inner_paths in wanted.items():
            if isinstance(value := found.get(name), str):
                shown[name] = self.show(self.require(value, _KINDS.get(name, name)), inner_paths)
        return shown

    def show_any(self, object_id: str) -> dict[str, Any]:
        """Of whatever kind it is."""
        [row] = self._store.all("SELECT body FROM objects WHERE id = ?", object_id)
        return self.show(json.loads(row["body"]))

    def make(self, prefix: str, kind: str, **values: Any) -> dict[str, Any]:
        made = {
            "id": f"{prefix}_{secrets.token_hex(12)}",
            "object": kind,
            "created": now_ms() // 1000,
            "livemode": False,
        }
        made |= values
        self._store.insert("objects", id=made["id"], kind=kind, body=json.dumps(made))
        return made

    def save(self, found: Mapping[str, Any], due_ms: int | None = None) -> None:
        statement = "UPDATE objects SET body = ?, due_ms = ? WHERE id = ?"
        self._store.execute(statement, json.dumps(found), due_ms, found["id"])

    def find_due_ms(self, object_id: str) -> int | None:
        row = self._store.one("SELECT due_ms FROM objects WHERE id = ?", object_id)
        return None if row is None else row["due_ms"]

    def list_due(self) -> list[tuple[str, dict[str, Any]]]:
        """(kind, object) of some whose time has come."""
        query = "SELECT kind, body FROM objects WHERE due_ms IS NOT NULL AND due_ms <= ? ORDER BY due_ms LIMIT 50"
        return [(row["kind"], json.loads(row["body"])) for row in self._store.all(query, now_ms())]

    def find_next_due_ms(self) -> int | None:
        row = self._store.one("SELECT min(due_ms) AS due_ms FROM objects WHERE due_ms IS NOT NULL")
        return None if row is None else row["due_ms"]

    def list_events(
        self, types: Sequence[str], newer_than: str | None, older_than: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], bool]:
        """Newest first: the last ones, or those that came next after or before another one; and whether there are
        more."""
        since = 0 if newer_than is None else self._find_event(newer_than, "ending_before")
        until = 2**62 if older_than is None else self._find_event(older_than, "starting_after")
        marks, way = ", ".join("?" * len(types)), "DESC" if newer_than is None else "ASC"
        # Marks are counted here, and values travel as parameters.
        query = (
            f"SELECT body FROM events WHERE sequence > ? AND sequence < ? AND type IN ({marks})"  # noqa: S608
            f" ORDER BY sequence {way} LIMIT ?"
        )
        rows = self._store.all(query, since, until, *types, limit + 1)
        found = [json.loads(row["body"]) for row in rows[:limit]]
        return found if newer_than is None else found[::-1], len(rows) > limit

    def _find_event(self, event_id: str, param: str) -> int:
        found = self._store.one("SELECT sequence FROM events WHERE id = ?", event_id)
        if found is None:
            raise StripeRefusal(400, "invalid_request_error", "No such event.", param=param)
        return int(found["sequence"])

    def tell(self, event_type: str, found: Mapping[str, Any]) -> None:
        event = {
            "id": f"evt_{secrets.token_hex(12)}",
            "object": "event",
            "type": event_type,
            "created": now_ms() // 1000,
            "livemode": False,
            "data": {"object": self.show(found)},
        }
        self._store.insert(
            "events",
            id=event["id"],
            about=found["id"],
            type=event_type,
            body=encode(event),
            deliveries_left=1,
            next_attempt_ms=now_ms(),
        )


def _find(found: Mapping[str, Any], name: str) -> Any:
    first, _, inner = name.partition(".")
    return found.get(first, {}).get(inner) if inner else found.get(first)
