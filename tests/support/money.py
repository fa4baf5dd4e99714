"""Money as tests write it."""

from __future__ import annotations

from realco.type.v1.money_pb2 import Money


def usd(amount_minor: int) -> Money:
    return Money(currency_code="USD", amount_minor=amount_minor)
