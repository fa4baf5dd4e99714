"""Open items of an escrow account, which wait for somebody to settle them: what entries change of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.escrow.domain.chart import LedgerAccount, LedgerAccountKind, line_of
from services.escrow.domain.journal import Layer, NewEntry

_CASH = LedgerAccountKind.CASH
# By identity: every leg that is booked is compared, and the hash of a member costs more than this.
_OPEN_IF_POSTED = (
    LedgerAccountKind.RETURNS_RECEIVABLE,
    LedgerAccountKind.PROVIDER_FEES,
    LedgerAccountKind.UNAPPLIED,
    LedgerAccountKind.SUSPENSE,
)


class OpenItem(NamedTuple):
    """How much of a ledger account is open after some entries, and how much was before them.

    Args:
        entry: The last of them that changed it.
    """

    ledger_account: LedgerAccount
    open_minor: int
    previous_minor: int
    entry: NewEntry


def list_changed_items(booked: Iterable[tuple[NewEntry, Sequence[int]]]) -> list[OpenItem]:
    """The open items of one escrow account that entries changed.

    Args:
        booked: Each entry with the balance after each of its legs, of the leg's layer, in the order of booking.
    """
    found: dict[LedgerAccount, OpenItem] = {}
    for entry, balances in booked:
        for leg, after_minor in zip(entry.legs, balances, strict=True):
            kind = leg.ledger_account.kind
            if leg.layer is not Layer.POSTED or not (kind is _CASH or any(kind is each for each in _OPEN_IF_POSTED)):
                continue
            grows = leg.direction is line_of(kind).normal_balance
            before_minor = after_minor - (leg.amount_minor if grows else -leg.amount_minor)
            open_minor, previous_minor = _count_open(kind, after_minor), _count_open(kind, before_minor)
            if open_minor != previous_minor:
                first = found.get(leg.ledger_account)
                previous_minor = previous_minor if first is None else first.previous_minor
                found[leg.ledger_account] = OpenItem(leg.ledger_account, open_minor, previous_minor, entry)
    return [each for each in found.values() if each.open_minor != each.previous_minor]


def _count_open(kind: LedgerAccountKind, posted_minor: int) -> int:
    """Of cash what the custodian's bank account is overdrawn by; of the others all that stands there."""
    return max(-posted_minor, 0) if kind is _CASH else posted_minor
