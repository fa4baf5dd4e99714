"""What is open in an escrow account follows from the balances after each leg."""

from __future__ import annotations

import pytest

from services.escrow.domain.chart import Direction, LedgerAccount, LedgerAccountKind
from services.escrow.domain.journal import EntryType, Layer, Leg, NewEntry, build_key
from services.escrow.domain.open_items import list_changed_items

K = LedgerAccountKind
ANN, BOB = LedgerAccount(K.RETURNS_RECEIVABLE, "ann"), LedgerAccount(K.RETURNS_RECEIVABLE, "bob")
UNAPPLIED, SUSPENSE = LedgerAccount(K.UNAPPLIED, "ann"), LedgerAccount(K.SUSPENSE)
CASH, FEES, SUBSCRIBED = LedgerAccount(K.CASH), LedgerAccount(K.PROVIDER_FEES), LedgerAccount(K.SUBSCRIPTION, "ann")
Booked = tuple[LedgerAccount, int, int]


def build_entry(number: int, legs: list[Booked], layer: Layer) -> tuple[NewEntry, list[int]]:
    """Each leg: the ledger account, what is debited (below zero: credited), and the balance after it."""
    sides = [
        Leg(account, Direction.DEBIT if debited > 0 else Direction.CREDIT, abs(debited), layer)
        for account, debited, _ in legs
    ]
    key = build_key(f"key-{number}", body=b"")
    entry = NewEntry("org", "esc", f"je_{number}", key, EntryType.ADJUSTMENT, "", sides, "ann")
    return entry, [after for _, _, after in legs]


@pytest.mark.parametrize(("entries", "expected"), [
    ([[(CASH, 50, 50), (SUBSCRIBED, -50, 50)]], []),
    ([[(CASH, -50, 0), (SUBSCRIBED, 50, 0)]], []),
    ([[(CASH, -50, -20), (ANN, 50, 50)]], [(CASH, 0, 20, "je_1"), (ANN, 0, 50, "je_1")]),
    ([[(CASH, 50, 30), (ANN, -50, 0)]], [(CASH, 20, 0, "je_1"), (ANN, 50, 0, "je_1")]),
    ([[(ANN, 5, 5)], [(BOB, 7, 9)]], [(ANN, 0, 5, "je_1"), (BOB, 2, 9, "je_2")]),
    ([[(ANN, 5, 8)], [(ANN, 1, 9)]], [(ANN, 3, 9, "je_2")]),
    ([[(FEES, 5, 5)], [(FEES, -5, 0)]], []),
    ([[(CASH, -5, -5)], [(CASH, 9, 4)], [(CASH, -1, 3)]], []),
    ([[(CASH, -5, -9)], [(CASH, 1, -8)]], [(CASH, 4, 8, "je_2")]),
    ([[(SUBSCRIBED, 5, -5)]], []),
    ([[(CASH, 5, 5), (UNAPPLIED, -5, 5)], [(UNAPPLIED, 2, 3), (SUBSCRIBED, -2, 2)]], [(UNAPPLIED, 0, 3, "je_2")]),
    ([[(SUSPENSE, 5, 0), (SUBSCRIBED, -5, 5)]], [(SUSPENSE, 5, 0, "je_1")]),
], ids=["money comes", "all of it goes", "a bank takes it back", "it is paid in", "two owe", "twice",
        "and is made good at once", "for an instant", "more, then less", "an account of another kind",
        "it came while frozen, and some is applied", "it is explained"])  # fmt: skip
def test_what_is_open_is_told_once_a_ledger_account_as_it_is_after_all_of_them(
    entries: list[list[Booked]], expected: list[tuple[LedgerAccount, int, int, str]]
) -> None:
    booked = [build_entry(number, legs, Layer.POSTED) for number, legs in enumerate(entries, start=1)]
    found = list_changed_items(booked)
    assert [(a, before, now, entry.journal_entry_id) for a, now, before, entry in found] == expected


def test_what_is_only_announced_is_not_open() -> None:
    assert list_changed_items([build_entry(1, [(CASH, -5, -5), (ANN, 5, 5)], Layer.PENDING)]) == []
