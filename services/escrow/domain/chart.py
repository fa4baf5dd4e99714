"""The chart of accounts: what each ledger account of an escrow account holds, and on which side it grows."""

from __future__ import annotations

from enum import Enum

from services.chassis.values.invariant import invariant


class Direction(Enum):
    """The side of an account."""

    DEBIT = "DEBIT"
    CREDIT = "CREDIT"

    @property
    def opposite(self) -> Direction:
        return Direction.CREDIT if self is Direction.DEBIT else Direction.DEBIT


CASH = "cash"  # the mirror of the custodian's bank account
IN_TRANSIT = "in_transit"  # taken by the rails, not settled; its credit side is money on its way out
ISSUER_PROCEEDS = "issuer_proceeds"  # released at closing, not paid out yet
DISTRIBUTABLE = "distributable"  # cash moved in to be distributed
FEES = "fees"
SUSPENSE = "suspense"  # money not explained yet

RETURNS_RECEIVABLE = "returns_receivable"  # of a party: a late return of money that had left
SUBSCRIPTION = "subscription"  # of a party: contributed, refundable
PAYABLE = "payable"  # of a party: a declared distribution, owed

_NORMAL = {
    CASH: Direction.DEBIT,
    IN_TRANSIT: Direction.DEBIT,
    RETURNS_RECEIVABLE: Direction.DEBIT,
    ISSUER_PROCEEDS: Direction.CREDIT,
    DISTRIBUTABLE: Direction.CREDIT,
    FEES: Direction.CREDIT,
    SUSPENSE: Direction.CREDIT,
    SUBSCRIPTION: Direction.CREDIT,
    PAYABLE: Direction.CREDIT,
}
_OF_PARTIES = frozenset({RETURNS_RECEIVABLE, SUBSCRIPTION, PAYABLE})


def of_party(kind: str, party_id: str) -> str:
    """The code of a party's own ledger account: `subscription:inv-001`."""
    invariant(kind in _OF_PARTIES, "only some ledger accounts belong to a party")
    return f"{kind}:{party_id}"


def normal_balance(ledger_account: str) -> Direction:
    """The side on which the ledger account of this code grows."""
    return _NORMAL[ledger_account.partition(":")[0]]


def may_be_overdrawn(ledger_account: str) -> bool:
    """Only `in_transit` has two sides; every other account stays at zero or above, holds counted."""
    return ledger_account == IN_TRANSIT
