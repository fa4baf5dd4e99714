"""Assertions that survive `python -O` and page a human when they fail."""

from __future__ import annotations


class InvariantViolation(RuntimeError):
    """A programmer error: the transaction rolls back and the caller sees INTERNAL."""


def invariant(condition: bool, message: str) -> None:
    """Raises InvariantViolation unless `condition` holds. For facts only a bug can break, never for input."""
    if not condition:
        raise InvariantViolation(message)
