"""The ABA routing number's check digit."""

from __future__ import annotations

_WEIGHTS = (3, 7, 1, 3, 7, 1, 3, 7, 1)


def has_check_digit(routing_number: str) -> bool:
    """Whether the nine digits, weighted 3-7-1, sum to a multiple of ten. Source: ABA Routing Number Policy."""
    if len(routing_number) != 9 or not (routing_number.isascii() and routing_number.isdigit()):
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, routing_number, strict=True))
    return total > 0 and total % 10 == 0
