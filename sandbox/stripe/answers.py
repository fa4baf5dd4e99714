"""Answers and errors as Stripe gives them, and each key's answer given again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.store import Store

AMOUNT_MAX = 99_999_999
ANSWERS = """
CREATE TABLE IF NOT EXISTS answers (
    idempotency_key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    made_ms INTEGER NOT NULL
);
"""


class StripeRefusal(Exception):
    """An error with its HTTP status, as `error` has it."""

    def __init__(self, status: int, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": kind, "message": message, **more}

    def body(self) -> bytes:
        return encode({"error": self.error})


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    replayed: bool = False


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Answers:
    """
    Args:
        lifetime_ms: After which a key is forgotten, as Stripe may.
    """

    def __init__(self, store: Store, lifetime_ms: int) -> None:
        self._store = store
        self._lifetime_ms = lifetime_ms

    def give_once(self, key: str, path: str, form: Mapping[str, Any], run: Callable[[], Answer]) -> Answer:
        """
        Args:
            run: What the request does, in the transaction in which its answer is kept.
        """
        fingerprint = hashlib.sha256(f"{path} {json.dumps(form, sort_keys=True)}".encode()).hexdigest()
        with self._store.transaction():
            self._store.execute("DELETE FROM answers WHERE made_ms < ?", now_ms() - self._lifetime_ms)
            kept = self._store.one("SELECT * FROM answers WHERE idempotency_key = ?", key) if key else None
            if kept is not None:
                if kept["fingerprint"] != fingerprint:
                    message = "Keys for idempotent requests can only be used with the same parameters."
                    return Answer(400, StripeRefusal(400, "idempotency_error", message).body())
                return Answer(kept["status"], kept["body"], replayed=True)
            try:
                answer = run()
            except StripeRefusal as refusal:
                if refusal.status < 402:  # what is not begun leaves the key free
                    return Answer(refusal.status, refusal.body())
                answer = Answer(refusal.status, refusal.body())
            if key:
                self._store.insert(
                    "answers",
                    idempotency_key=key,
                    fingerprint=fingerprint,
                    status=answer.status,
                    body=answer.body,
                    made_ms=now_ms(),
                )
            return answer


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def invalid(param: str, message: str, code: str = "parameter_invalid") -> StripeRefusal:
    return StripeRefusal(400, "invalid_request_error", message or f"{param} is not valid.", code=code, param=param)


def read_amount(text: str | None, currency: str | None) -> int:
    """In minor units. Raises: StripeRefusal."""
    if not (text and text.isascii() and text.isdigit() and 1 <= int(text[:12]) <= AMOUNT_MAX):
        raise invalid("amount", "Invalid integer, or too much.", code="amount_too_large")
    if currency != "usd":
        raise invalid("currency", "This stand-in knows usd alone.")
    return int(text)
