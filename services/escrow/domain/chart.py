"""The chart of accounts: which kinds of ledger account an escrow account has, stated here and nowhere else.

The database's table `ledger_account_kinds` is filled from this one, its constraints and functions read that, and a
contract test compares the comments of `realco.escrow.v1.LedgerAccount.Kind` with it.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from services.chassis.values.invariant import invariant


class Direction(Enum):
    """The side of an account."""

    DEBIT = "DEBIT"
    CREDIT = "CREDIT"

    @property
    def opposite(self) -> Direction:
        return Direction.CREDIT if self is Direction.DEBIT else Direction.DEBIT


class LedgerAccountKind(StrEnum):
    """A kind of ledger account."""

    CASH = "CASH"
    IN_TRANSIT = "IN_TRANSIT"
    RETURNS_RECEIVABLE = "RETURNS_RECEIVABLE"
    SUBSCRIPTION = "SUBSCRIPTION"
    ISSUER_PROCEEDS = "ISSUER_PROCEEDS"
    DISTRIBUTABLE = "DISTRIBUTABLE"
    PAYABLE = "PAYABLE"
    FEES = "FEES"
    RESERVES = "RESERVES"
    WITHHOLDING = "WITHHOLDING"
    SUSPENSE = "SUSPENSE"
    UNAPPLIED = "UNAPPLIED"
    PROVIDER_FEES = "PROVIDER_FEES"


class Owner(Enum):
    """Whose the money of a ledger account is: who gains where it is credited, be it owed more or owing less."""

    PARTY = "its party"
    INVESTOR = "its party; and the sponsor, who is paid it at the closing"
    SPONSOR = "the sponsor"
    PAYEES = "who is paid from it: all who have a ledger account of their own, and the sponsor, who has the carry"
    NOBODY = "nobody in particular"


class ChartLine(NamedTuple):
    """What is true of every ledger account of one kind."""

    kind: LedgerAccountKind
    normal_balance: Direction  # the side on which it grows
    owner: Owner
    may_be_overdrawn: bool  # by what banks do; every other account stays at zero or above, holds counted
    counts_as_available: bool  # what stands on it is part of what the escrow account has available
    holds: str

    @property
    def of_party(self) -> bool:
        """Whether each party has one of its own."""
        return self.owner in (Owner.PARTY, Owner.INVESTOR)

    @property
    def may_be_held(self) -> bool:
        """A hold keeps back what is owed to somebody. The other side follows the bank, whatever a person wants held."""
        return self.normal_balance is Direction.CREDIT


_DEBIT, _CREDIT = Direction.DEBIT, Direction.CREDIT
CHART = (
    #         kind                    side    owner         overdrawn  available
    # A bank takes back what was paid on, too. It stands where it was taken: what comes in next makes it good first.
    ChartLine(
        LedgerAccountKind.CASH,
        _DEBIT,
        Owner.NOBODY,
        True,
        True,
        "the mirror of the custodian's bank account; below zero where a bank took more than was there",
    ),
    ChartLine(
        LedgerAccountKind.IN_TRANSIT,
        _DEBIT,
        Owner.NOBODY,
        True,
        False,
        "money the rails have taken and not settled; what is on its way out is on its credit side",
    ),
    ChartLine(
        LedgerAccountKind.RETURNS_RECEIVABLE,
        _DEBIT,
        Owner.PARTY,
        False,
        False,
        "a late return of money that had already left escrow",
    ),
    ChartLine(
        LedgerAccountKind.SUBSCRIPTION,
        _CREDIT,
        Owner.INVESTOR,
        False,
        True,
        "contributed, refundable, still the investor's",
    ),
    ChartLine(
        LedgerAccountKind.ISSUER_PROCEEDS, _CREDIT, Owner.SPONSOR, False, True, "released at closing, not yet paid out"
    ),
    ChartLine(
        LedgerAccountKind.DISTRIBUTABLE,
        _CREDIT,
        Owner.PAYEES,
        False,
        True,
        "operating or sale cash the issuer moved in",
    ),
    ChartLine(LedgerAccountKind.PAYABLE, _CREDIT, Owner.PARTY, False, True, "a declared distribution, owed"),
    ChartLine(LedgerAccountKind.FEES, _CREDIT, Owner.NOBODY, False, True, "fees"),
    ChartLine(LedgerAccountKind.RESERVES, _CREDIT, Owner.NOBODY, False, False, "kept back"),
    ChartLine(LedgerAccountKind.WITHHOLDING, _CREDIT, Owner.NOBODY, False, False, "withheld for the tax office"),
    ChartLine(LedgerAccountKind.SUSPENSE, _CREDIT, Owner.NOBODY, False, True, "money not yet explained"),
    ChartLine(
        LedgerAccountKind.UNAPPLIED,
        _CREDIT,
        Owner.PARTY,
        False,
        True,
        "brought while the escrow account was frozen, not yet applied to what it was for",
    ),
    ChartLine(
        LedgerAccountKind.PROVIDER_FEES,
        _DEBIT,
        Owner.SPONSOR,  # who closes nothing before somebody has made it good
        False,
        False,
        "what payment providers have kept for themselves of money that came in, and nobody has paid in since",
    ),
)
_LINES = {line.kind: line for line in CHART}


class LedgerAccount(NamedTuple):
    """A ledger account of an escrow account: its kind, and the party it belongs to; empty where it is nobody's."""

    kind: LedgerAccountKind
    party_id: str = ""

    def __str__(self) -> str:
        """For people to read; nothing parses it."""
        name = self.kind.replace("_", " ").lower()
        return f"{name} of {self.party_id}" if self.party_id else name


CASH = LedgerAccount(LedgerAccountKind.CASH)
IN_TRANSIT = LedgerAccount(LedgerAccountKind.IN_TRANSIT)
ISSUER_PROCEEDS = LedgerAccount(LedgerAccountKind.ISSUER_PROCEEDS)
DISTRIBUTABLE = LedgerAccount(LedgerAccountKind.DISTRIBUTABLE)


def account_of_party(kind: LedgerAccountKind, party_id: str) -> LedgerAccount:
    """The ledger account of this kind that belongs to the party."""
    invariant(_LINES[kind].of_party and party_id != "", "some kinds belong to a party, and it has a name")
    return LedgerAccount(kind, party_id)


def line_of(kind: LedgerAccountKind) -> ChartLine:
    """What is true of the ledger accounts of this kind."""
    return _LINES[kind]
