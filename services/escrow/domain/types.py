"""What a transaction is to the book, by its type: one table, which everything else in this service reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.chassis.values.errors import OfNewerRelease
from services.escrow.domain.chart import LedgerAccount, LedgerAccountKind, account_of_party, line_of
from services.escrow.domain.journal import EntryType


@dataclass(frozen=True, slots=True)
class TransactionType:
    """What the book does with one type.

    Args:
        label: How its journal entries name it: the word of transactions.
        ledger_account_kind: What money that comes in is put on, and a payout is taken from.
        entry_type: The type of the journal entry that puts it there, or takes it.
        arrives_as: What a transfer is to the escrow account that it goes to.
        scope: Which keys its entries have: those of two accounts of one transfer never meet.
        is_inbound: Whether money comes in from the party, and is held while its bank may take it back; else a payout.
    """

    name: str
    label: str
    ledger_account_kind: LedgerAccountKind
    entry_type: EntryType
    is_inbound: bool = False
    arrives_as: TransactionType | None = None
    scope: str = "transaction"

    def ledger_account_of(self, party_id: str) -> LedgerAccount:
        """The party's own where the kind is of a party."""
        kind = self.ledger_account_kind
        return account_of_party(kind, party_id) if line_of(kind).of_party else LedgerAccount(kind)


TYPES: Mapping[str, TransactionType] = MappingProxyType(
    {
        each.name: each
        for each in (
            TransactionType(
                "DEPOSIT", "Cash of the issuer", LedgerAccountKind.DISTRIBUTABLE, EntryType.DEPOSIT, is_inbound=True
            ),
            TransactionType(
                "ESCROW_DEPOSIT",
                "Contribution",
                LedgerAccountKind.SUBSCRIPTION,
                EntryType.DEPOSIT,
                is_inbound=True,
            ),
            TransactionType("DISTRIBUTION", "Distribution", LedgerAccountKind.PAYABLE, EntryType.DISTRIBUTION),
            TransactionType(
                "ESCROW_WITHDRAWAL", "Proceeds of an offering", LedgerAccountKind.ISSUER_PROCEEDS, EntryType.WITHDRAWAL
            ),
            TransactionType("REFUND", "Refund of a contribution", LedgerAccountKind.SUBSCRIPTION, EntryType.REFUND),
            TransactionType(
                "WITHDRAWAL", "Cash taken back by the issuer", LedgerAccountKind.DISTRIBUTABLE, EntryType.WITHDRAWAL
            ),
            TransactionType("CONSTRUCTION_DRAW", "Construction draw", LedgerAccountKind.RESERVES, EntryType.WITHDRAWAL),
            TransactionType("PLATFORM_FEE", "Platform fee", LedgerAccountKind.FEES, EntryType.FEE),
            TransactionType("REFERRAL_FEE", "Referral fee", LedgerAccountKind.FEES, EntryType.FEE),
            TransactionType(
                "TRANSFER",
                "Transfer to another escrow account",
                LedgerAccountKind.DISTRIBUTABLE,
                EntryType.TRANSFER,
                arrives_as=TransactionType(
                    "TRANSFER",
                    "Transfer from another escrow account",
                    LedgerAccountKind.DISTRIBUTABLE,
                    EntryType.TRANSFER,
                    is_inbound=True,
                    scope="arrival",
                ),
            ),
        )
    }
)


def require_type(name: str) -> TransactionType:
    """Raises OfNewerRelease."""
    if name not in TYPES:
        raise OfNewerRelease(f"transactions of type {name}")
    return TYPES[name]
