"""Set-off: what a party is owed, less what it owes in the same escrow account, after a late return.

| paid from | entries |
|---|---|
| PAYABLE, ISSUER_PROCEEDS | of each investment of which something is owed: Dr it / Cr RETURNS_RECEIVABLE |
| SUBSCRIPTION | of the investment that is refunded: Dr SUBSCRIPTION / Cr PAYABLE; then as above, from PAYABLE |

An entry names one investment, and what is refunded and what is owed may be of two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.escrow.domain.chart import Direction, LedgerAccount, LedgerAccountKind, account_of_party
from services.escrow.domain.journal import Layer, Leg, credit, debit


class Part(NamedTuple):
    """An amount of one investment; None: of none that is known."""

    investment_id: str | None
    minor: int


class SetOffEntry(NamedTuple):
    """One of the entries of a set-off; what it is about, in words."""

    investment_id: str | None
    description: str
    legs: tuple[Leg, ...]


def list_debts(party_id: str, booked: Iterable[tuple[str | None, Sequence[Leg]]]) -> list[Part]:
    """What the party owes of each investment, the oldest first.

    Args:
        booked: The entries on its RETURNS_RECEIVABLE, oldest first: the investment of each, and its legs.
    """
    owed = account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, party_id)
    sums: Counter[str | None] = Counter()
    for investment_id, legs in booked:
        sums[investment_id] += sum_owed(owed, legs)
    return [Part(investment_id, minor) for investment_id, minor in sums.items() if minor > 0]


def sum_owed(owed: LedgerAccount, legs: Iterable[Leg]) -> int:
    """What posted legs add to a debt; below zero where they settle it."""
    posted = (leg for leg in legs if leg.ledger_account == owed and leg.layer is Layer.POSTED)
    return sum(leg.amount_minor if leg.direction is Direction.DEBIT else -leg.amount_minor for leg in posted)


def share_set_off(minor: int, debts: Sequence[Part]) -> list[Part]:
    """The oldest debts that the amount settles; the last of them in part."""
    parts = []
    for debt in debts:
        settled_minor = min(minor, debt.minor)
        if settled_minor > 0:
            parts.append(Part(debt.investment_id, settled_minor))
        minor -= settled_minor
    return parts


def build_set_off(
    source: LedgerAccount, party_id: str, investment_id: str | None, parts: Sequence[Part]
) -> list[SetOffEntry]:
    """
    Args:
        source: What the payout would be taken from.
        investment_id: That is refunded, if one is.
        parts: What of the debts is settled.
    """
    entries, owed = [], account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, party_id)
    if source.kind is LedgerAccountKind.SUBSCRIPTION:
        total_minor, payable = sum(part.minor for part in parts), account_of_party(LedgerAccountKind.PAYABLE, party_id)
        legs = (debit(source, total_minor), credit(payable, total_minor))
        entries.append(SetOffEntry(investment_id, "Refund that is set off against what the party owes", legs))
        source = payable
    for part in parts:
        legs = (debit(source, part.minor), credit(owed, part.minor))
        entries.append(SetOffEntry(part.investment_id, "Set off against what the bank took back", legs))
    return entries
