"""What an operator reads who accepts an entry that escrow did not book: what it says of itself, and what follows.

It stays in the book: whatever sums the book counts it. What becomes of a transaction follows from our own entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.chassis.values.text import quote
from services.escrow.domain.journal import EntryType

_FOR = (("transaction_id", "transaction"), ("investment_id", "investment"), ("distribution_id", "distribution"))
# By type: of a transfer that it names.
_OF_TRANSFER = {
    EntryType.TRANSFER.value: "What parties owe where the other entries of {} are keeps them from being paid here"
    " (PARTY_OWES), as if money had come from there.",
    EntryType.RETURN.value: "If {} was a transfer to here and this takes out as much as it brought, what parties owe"
    " where that came from keeps nobody from being paid here any more.",
}

_OF_PENDING = (
    "What it says is pending keeps what is under way from being booked: nothing but its reversal, which two persons ask"
    " for, puts that right."
)


def describe_accepted(legs: Sequence[Mapping[str, Any]]) -> str:
    """
    Args:
        legs: All legs of the entry, each with its entry's columns.
    """
    head = legs[0]
    named = [f"{what} {head[column]}" for column, what in _FOR if head[column]]
    told = f"{head['type']} {' '.join([*(['of'] if named else []), ', '.join(named)])}".strip()
    moved = ", ".join(map(_spell_leg, legs))
    said = f"{told}, in the name of {quote(head['created_by'])}: {moved}."
    counts = f"It counts in all balances, from {head['effective_at']:%Y-%m-%d} on."
    pending = [_OF_PENDING] if any(leg["pending"] for leg in legs) else []
    return " ".join([said, counts, *pending, *_list_consequences(head)])


def _spell_leg(leg: Mapping[str, Any]) -> str:
    layer = "pending " if leg["pending"] else ""
    return f"{layer}{'DEBIT' if leg['debit'] else 'CREDIT'} {leg['kind']} {leg['party_id']} {leg['amount_minor']}"


def _list_consequences(head: Mapping[str, Any]) -> list[str]:
    found, transaction_id = [], head["transaction_id"]
    if transaction_id:
        found.append(f"Of what became of {transaction_id} it says nothing: that is booked as if it was not there.")
        if head["type"] in _OF_TRANSFER:
            found.append(_OF_TRANSFER[head["type"]].format(transaction_id))
    if head["reverses_journal_entry_id"]:
        reversed_id = head["reverses_journal_entry_id"]
        found.append(
            f"{reversed_id} counts as reversed by it: if this service booked that, nobody can reverse it again."
        )
    return found
