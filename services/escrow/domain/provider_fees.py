"""What a payment provider keeps for itself: (what it has kept by now, what the book has of that) -> legs.

It pays out less than it collected, so less cash arrives: CASH bears it, below zero if need be. Of the other side FEES
bears what is set aside there; the rest stands on PROVIDER_FEES until persons post what is paid in for it. Its entries
are no part of the transaction's position (stages.py): whatever becomes of the money, the fee is the provider's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from services.escrow.domain.chart import CASH, LedgerAccount, LedgerAccountKind
from services.escrow.domain.journal import EntryType, Leg, credit, debit
from services.escrow.domain.stages import BookedPosition

FEES: Final = LedgerAccount(LedgerAccountKind.FEES)
PROVIDER_FEES: Final = LedgerAccount(LedgerAccountKind.PROVIDER_FEES)
BEARING: Final = (FEES, PROVIDER_FEES)


def find_fee_entries(entries: Iterable[tuple[str, str, str | None]]) -> frozenset[str]:
    """Which of the entries of a transaction are of fees: those that booked one, and what reverses them.

    Args:
        entries: Of each its id, type and the id of the entry that it reverses, oldest first.
    """
    found: set[str] = set()
    for entry_id, entry_type, reverses in entries:
        if entry_type == EntryType.PROVIDER_FEE.value or reverses in found:
            found.add(entry_id)
    return frozenset(found)


def build_fee_legs(
    kept_minor: int, booked: BookedPosition, count_available: Callable[[LedgerAccount], int]
) -> tuple[Leg, ...]:
    """The legs that bring the book to what the provider has kept; none where it is there.

    Args:
        booked: What the book has of the transaction's fees.
        count_available: Of each account in BEARING.
    """
    more_minor = kept_minor + booked.at_the_bank()
    if more_minor > 0:
        borne = min(more_minor, count_available(FEES))
        sides = (debit(FEES, borne), debit(PROVIDER_FEES, more_minor - borne))
        legs = (*sides, credit(CASH, more_minor))
    else:
        back_minor = -more_minor
        unpaid = max(0, min(back_minor, booked.debited(PROVIDER_FEES), count_available(PROVIDER_FEES)))
        legs = (debit(CASH, back_minor), credit(PROVIDER_FEES, unpaid), credit(FEES, back_minor - unpaid))
    return tuple(leg for leg in legs if leg.amount_minor)
