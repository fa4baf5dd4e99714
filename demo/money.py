"""Amounts as REST spells them, as integers of cents, and as people read them; never a float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CURRENCY = "USD"


def usd(minor: int) -> dict[str, str]:
    """The JSON of an amount of cents."""
    return {"currencyCode": CURRENCY, "amountMinor": str(minor)}


def minor(money: Mapping[str, Any] | None) -> int:
    """The cents in an answer's amount; one that is not set is zero. Raises: ValueError for another currency."""
    if money is None:
        return 0
    if money["currencyCode"] != CURRENCY:
        raise ValueError(f"{money['currencyCode']}, not {CURRENCY}")
    return int(money["amountMinor"])


def spelled(minor: int) -> str:
    """`12100000` -> `121,000.00`."""
    sign = "-" if minor < 0 else ""
    return f"{sign}{abs(minor) // 100:,}.{abs(minor) % 100:02d}"
