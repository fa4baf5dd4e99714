"""Exact money: an integer of minor units and its ISO 4217 currency, never apart.

No float enters; two currencies never mix; the only rounding in the house is `allocate`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from services.chassis.values.currencies import MINOR_DIGITS
from services.chassis.values.invariant import invariant


class ProtoMoney(Protocol):
    """The shape of `realco.type.v1.Money`; the pure floor imports no protobuf."""

    currency_code: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of one currency, in minor units (US cents)."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount_minor) is not int:  # bool is an int, and no amount
            raise TypeError(f"amount_minor must be int, not {type(self.amount_minor).__name__}")
        if self.currency not in MINOR_DIGITS:
            raise ValueError("currency must be one of ISO 4217 that money can be held in")

    @classmethod
    def from_proto(cls, message: ProtoMoney) -> Money:
        return cls(message.amount_minor, message.currency_code)

    def __str__(self) -> str:
        """For people to read, as `spell_money` spells it."""
        return spell_money(self.amount_minor, self.currency)

    def __add__(self, other: Money) -> Money:
        return Money(self.amount_minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount_minor - self._same(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount_minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.amount_minor < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.amount_minor <= self._same(other)

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise ValueError(f"currency mismatch: {self.currency} and {other.currency}")
        return other.amount_minor


def allocate(amount_minor: int, weights: Mapping[str, int | Fraction]) -> dict[str, int]:
    """Splits an amount in proportion to `weights` without gaining or losing a cent.

    Rounding: every share is rounded down, and the cents left go one each to the largest remainders; among equal
    remainders to the smaller id in byte order. So the result depends on the ids, never on their order, and no
    share is a whole cent from exact. A negative amount is split as its absolute value, with the sign put back.

    Source: Hamilton's method of apportionment.

    Raises:
        ValueError: a weight is negative, or there is an amount to split and no positive weight.
    """
    if min(weights.values(), default=0) < 0:
        raise ValueError("weights must not be negative")
    if amount_minor == 0:
        return dict.fromkeys(weights, 0)
    scale = math.lcm(*{weight.denominator for weight in weights.values()})
    scaled = {key: weight.numerator * (scale // weight.denominator) for key, weight in weights.items()}
    total = sum(scaled.values())
    if total == 0:
        raise ValueError("an amount needs at least one positive weight")
    sign, amount = (1, amount_minor) if amount_minor > 0 else (-1, -amount_minor)
    shares: dict[str, int] = {}
    remainders: list[tuple[int, str]] = []
    for key, weight in scaled.items():
        shares[key], remainder = divmod(amount * weight, total)
        remainders.append((-remainder, key))
    left = amount - sum(shares.values())
    # Code points sort as their UTF-8 bytes do, so comparing the strings is comparing the bytes.
    for _, key in sorted(remainders)[:left]:
        shares[key] += 1
    invariant(sum(shares.values()) == amount, "allocation gained or lost money")
    return shares if sign > 0 else {key: -share for key, share in shares.items()}


def spell_money(amount_minor: int, currency: str) -> str:
    """`121,000.00 USD`, `5,000,000 JPY`, `-1.500 KWD`: for people to read; nothing parses it."""
    digits = MINOR_DIGITS[currency]
    units, rest = divmod(abs(amount_minor), 10**digits)
    decimals = f".{rest:0{digits}d}" if digits else ""
    return f"{'-' if amount_minor < 0 else ''}{units:,}{decimals} {currency}"
