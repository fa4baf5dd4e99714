"""Moves what is due: each kind of object in its own way."""

from __future__ import annotations

from typing import Any

from sandbox.stripe.books import Books
from sandbox.stripe.card_desk import CardDesk
from sandbox.stripe.desk import Desk


class Clock:
    def __init__(self, books: Books, desk: Desk, cards: CardDesk) -> None:
        self._books = books
        self._debits = desk
        self._cards = cards

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
            case "refund":
                self._cards.end_refund(found)
            case "payment_intent" if found["payment_method_types"] == ["card"]:
                self._cards.end_intent(found)
            case _:
                self._debits.end(found)
