"""Answers and errors as Plaid gives them."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime


class PlaidRefusal(Exception):
    """An error with its HTTP status. Source: plaid.com/docs/errors."""

    def __init__(self, status: int, kind: str, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"error_type": kind, "error_code": code, "error_message": message, "display_message": None}

    def body(self) -> bytes:
        return encode(self.error | {"request_id": secrets.token_hex(8)})


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def encode_answer(**values: object) -> bytes:
    return encode(values | {"request_id": secrets.token_hex(8)})


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def spell_time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds // 1000, UTC).isoformat().replace("+00:00", "Z")
