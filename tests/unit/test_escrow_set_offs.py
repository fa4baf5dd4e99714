"""Set-off: the oldest debts first, in part where the money does not go further, and each entry of one investment."""

from __future__ import annotations

import pytest

from services.escrow.domain.chart import CASH, LedgerAccountKind, account_of_party
from services.escrow.domain.journal import Layer, credit, debit, sum_changes
from services.escrow.domain.set_offs import Part, build_set_off, list_debts, share_set_off

OWED = account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, "inv-001")
SUBSCRIPTION = account_of_party(LedgerAccountKind.SUBSCRIPTION, "inv-001")
PAYABLE = account_of_party(LedgerAccountKind.PAYABLE, "inv-001")
DEBTS = [Part("a", 30), Part(None, 5), Part("b", 50)]


@pytest.mark.parametrize(
    ("minor", "settled"),
    [
        (0, []),
        (29, [Part("a", 29)]),
        (30, [Part("a", 30)]),
        (36, [Part("a", 30), Part(None, 5), Part("b", 1)]),
        (85, DEBTS),
        (86, DEBTS),
    ],
)
def test_the_oldest_debts_are_settled_first(minor: int, settled: list[Part]) -> None:
    assert share_set_off(minor, DEBTS) == settled


def test_what_is_owed_of_each_investment_is_what_its_entries_leave() -> None:
    entries = [
        ("a", (debit(OWED, 40), credit(CASH, 40))),
        ("b", (debit(OWED, 50), credit(CASH, 50))),
        ("a", (debit(CASH, 10), credit(OWED, 10))),
        ("c", (debit(OWED, 7), credit(CASH, 7))),
        ("c", (debit(CASH, 7), credit(OWED, 7))),
        ("a", (debit(OWED, 9, Layer.PENDING), credit(CASH, 9, Layer.PENDING))),
    ]
    assert list_debts("inv-001", entries) == [Part("a", 30), Part("b", 50)]


@pytest.mark.parametrize("source", [SUBSCRIPTION, PAYABLE])
def test_a_set_off_takes_from_what_is_paid_and_from_what_is_owed_and_leaves_nothing_between(source) -> None:
    entries = build_set_off(source, "inv-001", "r", DEBTS)
    changes = sum_changes(leg for entry in entries for leg in entry.legs)
    assert changes == {source: -85, OWED: -85}
    assert [entry.investment_id for entry in entries][-3:] == ["a", None, "b"]
    assert len(entries) == 3 + (source == SUBSCRIPTION)
