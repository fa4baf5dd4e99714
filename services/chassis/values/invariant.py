"""Assertions that survive `python -O` and page a human when they fail."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class InvariantViolation(RuntimeError):
    """A programmer error: the transaction rolls back and the caller sees INTERNAL."""


def invariant(condition: bool, message: str) -> None:
    """Raises InvariantViolation unless `condition` holds. For facts only a bug can break, never for input."""
    if not condition:
        raise InvariantViolation(message)


def require_present(value: T | None, message: str) -> T:
    """The value, which only a bug can have missing."""
    if value is None:
        raise InvariantViolation(message)
    return value
