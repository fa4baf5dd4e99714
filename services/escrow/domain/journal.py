"""Journal entries before they are booked: legs, their mirror, and the keys under which they happen once."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from services.chassis.values.text import SERVICE_PREFIX
from services.escrow.domain.chart import Direction, LedgerAccount, LedgerAccountKind, line_of
from services.escrow.domain.refusals import JournalEntryUnbalanced

# Below a counter of 2^62 no sum of two leaves 64 bits.
AMOUNT_MINOR_MAX = 2**62 - 1
# What one transaction books in well under the time for which PostgreSQL lets it be idle while the answers are made.
LEGS_TOGETHER_MAX = 20_000
# What somebody asks for in one batch: its answer fits a message of gRPC, and the row in which it is kept.
BATCH_LEGS_MAX, BATCH_BYTES_MAX = 4_000, 512 * 1024


class Layer(Enum):
    """Whether the money is settled."""

    POSTED = "POSTED"
    PENDING = "PENDING"


class EntryType(Enum):
    """What kind of fact an entry is."""

    DEPOSIT = "DEPOSIT"
    WITHDRAWAL = "WITHDRAWAL"
    DISTRIBUTION = "DISTRIBUTION"
    FEE = "FEE"
    REFUND = "REFUND"
    ADJUSTMENT = "ADJUSTMENT"
    RECONCILIATION = "RECONCILIATION"
    CAPTURE = "CAPTURE"
    RELEASE = "RELEASE"
    RETURN = "RETURN"
    REVERSAL = "REVERSAL"
    SET_OFF = "SET_OFF"
    TRANSFER = "TRANSFER"
    PROVIDER_FEE = "PROVIDER_FEE"


_OF_BANKS = frozenset({LedgerAccountKind.CASH, LedgerAccountKind.IN_TRANSIT})
# What two persons decide elsewhere, with no transaction.
_DECIDED = (EntryType.RELEASE, EntryType.DISTRIBUTION, EntryType.SET_OFF)


def is_by_hand(entry_type: EntryType, transaction_id: str | None, created_by: str) -> bool:
    """Whether persons posted, captured or reversed it. What was held for a transaction, or is reversed of it, names it.

    The condition BY_HAND of tables.py says the same; a test compares them.
    """
    if entry_type is EntryType.REVERSAL and not created_by.startswith(SERVICE_PREFIX):
        return True
    return entry_type is EntryType.CAPTURE or (transaction_id is None and entry_type not in _DECIDED)


class Leg(NamedTuple):
    """One side of an entry on one ledger account; the amount is positive, in the escrow account's currency."""

    ledger_account: LedgerAccount
    direction: Direction
    amount_minor: int
    layer: Layer = Layer.POSTED


def debit(ledger_account: LedgerAccount, amount_minor: int, layer: Layer = Layer.POSTED) -> Leg:
    return Leg(ledger_account, Direction.DEBIT, amount_minor, layer)


def credit(ledger_account: LedgerAccount, amount_minor: int, layer: Layer = Layer.POSTED) -> Leg:
    return Leg(ledger_account, Direction.CREDIT, amount_minor, layer)


def mirror(legs: Iterable[Leg]) -> tuple[Leg, ...]:
    """The legs that undo these: a wrong entry is never edited."""
    return tuple(leg._replace(direction=leg.direction.opposite) for leg in legs)


def sum_changes(legs: Iterable[Leg]) -> dict[LedgerAccount, int]:
    """By how much what is posted on each ledger account grows, on its normal side, by all of the legs together."""
    changes: Counter[LedgerAccount] = Counter()
    for leg in legs:
        if leg.layer is Layer.POSTED:
            grows = leg.direction is line_of(leg.ledger_account.kind).normal_balance
            changes[leg.ledger_account] += leg.amount_minor if grows else -leg.amount_minor
    return {account: change for account, change in changes.items() if change}


def sum_moved(legs: Iterable[Leg]) -> int:
    """How much is debited more than credited, over all ledger accounts and layers for which it is so."""
    debited: Counter[tuple[LedgerAccount, Layer]] = Counter()
    for leg in legs:
        sign = 1 if leg.direction is Direction.DEBIT else -1
        debited[leg.ledger_account, leg.layer] += sign * leg.amount_minor
    return sum(minor for minor in debited.values() if minor > 0)


def check_balanced(legs: Sequence[Leg], currency: str) -> None:
    """Raises: JournalEntryUnbalanced: in a layer the debits are not the credits."""
    for layer in Layer:
        sides = Counter[Direction]()
        for leg in legs:
            if leg.layer is layer:
                sides[leg.direction] += leg.amount_minor
        debit_minor, credit_minor = sides[Direction.DEBIT], sides[Direction.CREDIT]
        if debit_minor != credit_minor:
            raise JournalEntryUnbalanced(debit_minor, credit_minor, currency)


def may_be_posted_by_hand(touched: Collection[LedgerAccountKind]) -> bool:
    """Whether an entry says nothing that rails say: what they have taken, or are to pay out.

    What a bank has done with cash and no payment says, persons settle between CASH and IN_TRANSIT: that makes nobody
    richer, since what is on its way out is no cash.

    Args:
        touched: The kinds of ledger account that it has legs on.
    """
    return LedgerAccountKind.IN_TRANSIT not in touched or _OF_BANKS.issuperset(touched)


class PostingKey(NamedTuple):
    """Under which key an entry is booked once, and the digest of what is asked for under it.

    Key and fingerprint are 128 and 256 bits of SHA-256. Scopes keep apart what people and services ask for and what
    the book does by itself, so that no caller takes the key of a fact that is still to come.
    """

    key: uuid.UUID
    fingerprint: bytes


def build_key(*scope: str, body: bytes) -> PostingKey:
    """The key made of the scope's parts, asked with this body."""
    return PostingKey(digest_scope(*scope), hashlib.sha256(body).digest())


def digest_scope(*scope: str) -> uuid.UUID:
    # Lengths are written down, so ("ab", "c") and ("a", "bc") differ.
    text = "".join(f"{len(part)}:{part}" for part in scope)
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A journal entry to book."""

    org_id: str
    escrow_account_id: str
    journal_entry_id: str
    key: PostingKey
    type: EntryType
    description: str
    legs: Sequence[Leg]
    created_by: str
    effective_at: datetime | None = None  # None: when it is booked
    currency: str | None = None  # None: whatever the escrow account's is
    transaction_id: str | None = None
    investment_id: str | None = None
    distribution_id: str | None = None
    reverses_journal_entry_id: str | None = None
    external_id: str | None = None
    metadata: Mapping[str, str] | None = None
    idempotency_key: str = ""  # the caller's word for the key, to name it in a refusal
    legs_path: str | None = None  # where a request has the legs, to name one in a refusal
    # Of what persons ask for: where the request names its investment, or what it reverses. No such entry takes what was
    # booked for another investment than it names.
    named_field: str | None = None
    payee_party_id: str | None = None  # whom the rails are asked to pay by it
    forbids_debts: bool = False  # nothing is booked by it while any party owes what the bank took back
    # True for facts of the rails: the money has moved, whether the account is frozen or its cash runs out.
    is_of_rails: bool = False
    # True where money leaves, or becomes another's, by it: all that the escrow account had before must be ours.
    asks_for_seals: bool = False

    @property
    def moved_minor(self) -> int:
        """How much it moves: what it takes from a ledger account and gives back to it does not count."""
        return sum_moved(self.legs)
