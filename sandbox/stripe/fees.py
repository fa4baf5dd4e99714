"""What the stand-in keeps for itself, as Stripe's list prices say; each movement of the balance bears its fee.

Source: stripe.com/pricing, of the United States: 2.9 % and 30 cents of a card, 0.8 % and at most 5 dollars of a debit,
4 dollars of one that fails, 15 dollars a dispute.
"""

from __future__ import annotations

from typing import Any

from sandbox.stripe.answers import now_ms
from sandbox.stripe.books import Books

FAILED_DEBIT_FEE, DISPUTE_FEE = 4_00, 15_00


def compute_card_fee(amount: int) -> int:
    return round(amount * 29 / 1000) + 30


def compute_debit_fee(amount: int) -> int:
    return min(round(amount * 8 / 1000), 5_00)


class Balance:
    """
    Args:
        is_billed: Nothing is kept: the fees are billed each month.
    """

    def __init__(self, books: Books, *, is_billed: bool) -> None:
        self._books = books
        self._is_billed = is_billed

    def move(self, kind: str, amount: int, fee: int = 0, source: str | None = None) -> dict[str, Any]:
        """A balance transaction, of money that came (positive) or went. It is in no payout yet.

        Args:
            kind: Its `type`.
            source: The id of what it is about.
        """
        fee = 0 if self._is_billed else fee
        return self._books.make(
            "txn",
            "balance_transaction",
            type=kind,
            amount=amount,
            fee=fee,
            net=amount - fee,
            currency="usd",
            available_on=now_ms() // 1000,
            source=source,
            _payout=None,
        )
