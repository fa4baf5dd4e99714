"""Routing numbers of American banks. Source: ABA Routing Number Policy."""

from __future__ import annotations

_WEIGHTS = (3, 7, 1, 3, 7, 1, 3, 7, 1)


def has_aba_check_digit(routing_number: str) -> bool:
    """Whether the sum of nine digits, weighted 3, 7, 1 in turn, is a multiple of ten."""
    if len(routing_number) != 9 or not (routing_number.isascii() and routing_number.isdigit()):
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, routing_number, strict=True))
    return total > 0 and total % 10 == 0
