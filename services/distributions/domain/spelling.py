"""Amounts for a person to read."""

from __future__ import annotations

from collections.abc import Callable

from services.chassis.values.money import spell_money


def spell_in(currency: str) -> Callable[[int], str]:
    """Spells amounts of this currency: `12100000` -> `121,000.00 USD`."""
    return lambda amount_minor: spell_money(amount_minor, currency)
