"""How much time the current call has left, by the monotonic clock."""

from __future__ import annotations

import time
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def remaining_seconds() -> float | None:
    """Seconds until the current call's deadline (negative once it has passed); None outside a call."""
    deadline = _deadline.get()
    return None if deadline is None else deadline - time.monotonic()


def set_deadline(seconds: float) -> None:
    """Gives the current task, and what it starts, `seconds` from now."""
    _deadline.set(time.monotonic() + seconds)


def grant_seconds(seconds: float) -> None:
    """Gives the current task, and what it starts, at least `seconds` from now, if it has a deadline at all."""
    remaining = remaining_seconds()
    if remaining is not None:
        set_deadline(max(remaining, seconds))
