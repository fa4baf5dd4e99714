"""Amounts as REST writes them, as integers of cents, and as people read them; never a float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CURRENCY = "USD"


def usd(amount_minor: int) -> dict[str, str]:
    """The JSON of an amount of cents."""
    return {"currencyCode": CURRENCY, "amountMinor": str(amount_minor)}


def minor_of(money: Mapping[str, Any] | None) -> int:
    """The cents in an answer's amount; one that is not set is zero. Raises: ValueError for another currency."""
    if money is None:
        return 0
    if money["currencyCode"] != CURRENCY:
        raise ValueError(f"{money['currencyCode']}, not {CURRENCY}")
    return int(money["amountMinor"])


def format_minor(amount_minor: int) -> str:
    """`12100000` -> `121,000.00`."""
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{abs(amount_minor) // 100:,}.{abs(amount_minor) % 100:02d}"
