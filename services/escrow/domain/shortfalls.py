"""Money that belongs in an escrow account and is not there: what entries change of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.escrow.domain.chart import Direction, LedgerAccount, LedgerAccountKind
from services.escrow.domain.journal import Layer, NewEntry

_CASH = LedgerAccountKind.CASH
# By identity: every leg that is booked is compared, and the hash of a member costs more than this.
_SHORT_IF_POSTED = (LedgerAccountKind.RETURNS_RECEIVABLE, LedgerAccountKind.PROVIDER_FEES)


class Shortfall(NamedTuple):
    """How much is missing in a ledger account after some entries, and how much was before them.

    Args:
        entry: The last of them that changed it.
    """

    ledger_account: LedgerAccount
    missing_minor: int
    previous_minor: int
    entry: NewEntry


def list_changed_shortfalls(booked: Iterable[tuple[NewEntry, Sequence[int]]]) -> list[Shortfall]:
    """The shortfalls of one escrow account that entries changed.

    Args:
        booked: Each entry with the balance after each of its legs, of the leg's layer, in the order of booking.
    """
    found: dict[LedgerAccount, Shortfall] = {}
    for entry, balances in booked:
        for leg, after_minor in zip(entry.legs, balances, strict=True):
            kind = leg.ledger_account.kind
            if leg.layer is not Layer.POSTED or not (kind is _CASH or any(kind is each for each in _SHORT_IF_POSTED)):
                continue
            # All of them grow on the debit side.
            before_minor = after_minor - (leg.amount_minor if leg.direction is Direction.DEBIT else -leg.amount_minor)
            missing_minor, previous_minor = _count_missing(kind, after_minor), _count_missing(kind, before_minor)
            if missing_minor != previous_minor:
                first = found.get(leg.ledger_account)
                previous_minor = previous_minor if first is None else first.previous_minor
                found[leg.ledger_account] = Shortfall(leg.ledger_account, missing_minor, previous_minor, entry)
    return [each for each in found.values() if each.missing_minor != each.previous_minor]


def _count_missing(kind: LedgerAccountKind, posted_minor: int) -> int:
    """Of cash what the custodian's bank account is overdrawn by; of the others all that stands there."""
    return max(-posted_minor, 0) if kind is _CASH else posted_minor
