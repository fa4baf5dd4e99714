"""Moves what is due: each kind of object in its own way."""

from __future__ import annotations

from typing import Any

from sandbox.stripe.books import Books
from sandbox.stripe.card_desk import CardDesk
from sandbox.stripe.desk import Desk
from sandbox.stripe.payouts import PayoutDesk


class Clock:
    def __init__(self, books: Books, desk: Desk, cards: CardDesk, payouts: PayoutDesk) -> None:
        self._books = books
        self._debits = desk
        self._cards = cards
        self._payouts = payouts

    def advance(self) -> bool:
        """Moves what is due; whether there was anything."""
        due = self._books.list_due()
        for kind, found in due:
            with self._books.transaction():
                self._move(kind, found)
        return bool(due)

    def find_next_due_ms(self) -> int | None:
        return self._books.find_next_due_ms()

    def _move(self, kind: str, found: dict[str, Any]) -> None:
        match kind:
            case "checkout.session":
                self._cards.end_session(found)
            case "dispute":
                self._cards.end_dispute(found)
            case "payout":
                self._payouts.end(found)
            case "schedule":
                self._payouts.run_schedule(found)
            case "refund":
                self._cards.end_refund(found)
            case "payment_intent" if found["payment_method_types"] == ["card"]:
                self._cards.end_intent(found)
            case _:
                self._debits.end(found)
