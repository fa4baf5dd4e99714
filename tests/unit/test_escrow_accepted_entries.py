"""What an operator reads of an entry that escrow did not book."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.escrow.domain.accepted_entries import describe_accepted

COUNTS = "It counts in all balances, from 2026-01-02 on."
NOTHING = "Of what became of txn_1 it says nothing: that is booked as if it was not there."


@pytest.mark.parametrize(
    ("entry", "said", "follows"),
    [
        ({"type": "FEE"}, "FEE, in the name of “admin-9”: ", [COUNTS]),
        (
            {"type": "DEPOSIT", "transaction_id": "txn_1", "investment_id": "invst_1"},
            "DEPOSIT of transaction txn_1, investment invst_1, in the name of “admin-9”: ",
            [COUNTS, NOTHING],
        ),
        (
            {"type": "TRANSFER", "transaction_id": "txn_1"},
            "TRANSFER of transaction txn_1, in the name of “admin-9”: ",
            [COUNTS, NOTHING, "What parties owe where the other entries of txn_1 are keeps them from being paid here"],
        ),
        (
            {"type": "RETURN", "transaction_id": "txn_1"},
            "RETURN of transaction txn_1, in the name of “admin-9”: ",
            [COUNTS, NOTHING, "If txn_1 was a transfer to here and this takes out as much as it brought, what parties"],
        ),
        (
            {"type": "REVERSAL", "reverses_journal_entry_id": "je_1"},
            "REVERSAL, in the name of “admin-9”: ",
            [COUNTS, "je_1 counts as reversed by it: if this service booked that, nobody can reverse it again."],
        ),
    ],
)
def test_an_entry_that_is_accepted_says_what_it_is_and_what_follows(entry, said, follows):
    of = ("transaction_id", "investment_id", "distribution_id", "reverses_journal_entry_id")
    head = {**dict.fromkeys(of), "created_by": "admin-9", "effective_at": datetime(2026, 1, 2, tzinfo=UTC), **entry}
    legs = [
        {**head, "pending": False, "debit": debit, "kind": kind, "party_id": "", "amount_minor": 5}
        for debit, kind in ((True, "CASH"), (False, "FEES"))
    ]
    told = describe_accepted(legs)
    assert told.startswith(f"{said}DEBIT CASH  5, CREDIT FEES  5. {follows[0]}")
    assert [line for line in follows if line not in told] == []
