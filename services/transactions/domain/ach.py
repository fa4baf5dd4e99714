"""Entries for files of the ACH network, and the files: what waits for the next one, was sent, or came back.

An entry settles by its file: on the next banking day, or by a same-day window; where the bank acknowledges files, not
before it accepts. A return says otherwise, and the network tells nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final, NamedTuple

from services.chassis.values.calendar import add_banking_days, is_banking_day
from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.chassis.values.moves import Moves
from services.transactions.domain.bank_accounts import HolderType
from services.transactions.domain.payments import Payment, PaymentStatus, ReversingPayment

# FedACH settles what was sent the day before in the morning. Source: Federal Reserve Banks, FedACH Processing Schedule.
SETTLES_AT: Final = time(13, 30, tzinfo=UTC)
# A file that was not released by then is released after whether its payments are still wanted was asked again.
ASKED_AGAIN_AFTER: Final = timedelta(minutes=5)
# Banking days: a file that left before has been fetched, or its day is long over.
GONE_AFTER_DAYS: Final = 3
_FILE_ID: Final = re.compile(r"-(achf_[0-9a-z]{26})\.ach")


class EntryStatus(StrEnum):
    """WITHDRAWN is what was not wanted any more before its file was made, or before one that waited was released."""

    WAITING = "WAITING"
    SENT = "SENT"
    WITHDRAWN = "WITHDRAWN"
    RETURNED = "RETURNED"


ENTRY_MOVES: Final[Moves[EntryStatus]] = {
    EntryStatus.WAITING: frozenset({EntryStatus.SENT, EntryStatus.WITHDRAWN}),
    EntryStatus.SENT: frozenset({EntryStatus.RETURNED, EntryStatus.WITHDRAWN}),
    EntryStatus.WITHDRAWN: frozenset(),
    EntryStatus.RETURNED: frozenset(),
}


class FileStatus(StrEnum):
    """RELEASED is what the bank may have: it is never made again. LEFT is what lies where the bank fetches it.
    WITHDRAWN is what was kept from leaving until nothing in it was wanted any more.

    ACCEPTED and REJECTED say what the bank says of it, where it says anything.
    """

    MADE = "MADE"
    WITHDRAWN = "WITHDRAWN"
    RELEASED = "RELEASED"
    LEFT = "LEFT"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"


FILE_MOVES: Final[Moves[FileStatus]] = {
    FileStatus.MADE: frozenset({FileStatus.RELEASED, FileStatus.WITHDRAWN}),
    FileStatus.WITHDRAWN: frozenset(),
    FileStatus.RELEASED: frozenset({FileStatus.LEFT}),
    FileStatus.LEFT: frozenset({FileStatus.ACCEPTED, FileStatus.REJECTED}),
    FileStatus.ACCEPTED: frozenset(),
    FileStatus.REJECTED: frozenset(),
}
ACKNOWLEDGED: Final = frozenset({FileStatus.ACCEPTED, FileStatus.REJECTED})


class EntryKind(StrEnum):
    """What a file carries: each is a class below."""

    PAYMENT = "PAYMENT"
    PRENOTE = "PRENOTE"
    REVERSAL = "REVERSAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class AchEntry:
    """What a file carries about one bank account, as it was ordered: always of one of the kinds below.

    Args:
        transaction_id: Of which it moves the money; None where it moves none.
        reversed_entry_id: The entry that it takes back; None where it takes none back.
    """

    kind: ClassVar[EntryKind]

    ach_entry_id: str
    provider_key: str
    transaction_id: str | None = None
    reversed_entry_id: str | None = None
    party_id: str
    bank_account_id: str
    is_inbound: bool
    amount_minor: int
    currency: str
    presentment: int
    routing_number: str
    account_number_encrypted: bytes  # vault.py
    account_type: str
    holder_type: HolderType
    account_holder_name: str
    description: str
    status: EntryStatus = EntryStatus.WAITING
    ach_file_id: str | None = None
    trace_no: int | None = None  # its number in that file, by which a return names it
    effective_on: date | None = None
    return_code: str | None = None
    returned_on: date | None = None
    change_code: str | None = None  # what its bank asks us to correct
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)

    @property
    def shown_id(self) -> str:
        """What the receiver's bank shows beside it, in fifteen characters."""
        return (self.transaction_id or self.bank_account_id)[-15:]

    @property
    def is_classed_as_debit(self) -> bool:
        """Whether its class is one of debits: what takes another entry back has the class of that one."""
        return self.is_inbound

    def list_addressed(self) -> dict[str, Any]:
        """Whose account it is about, to the character: what another entry about just that one has alike."""
        return {name: getattr(self, name) for name in _ADDRESSED}


_ADDRESSED: Final = (
    *("party_id", "bank_account_id", "currency", "routing_number", "account_number_encrypted", "account_type"),
    *("holder_type", "account_holder_name"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEntry(AchEntry):
    """One attempt at one transaction."""

    kind: ClassVar[EntryKind] = EntryKind.PAYMENT

    transaction_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrenoteEntry(AchEntry):
    """Of no amount and no transaction: it asks a bank whether the account is there."""

    kind: ClassVar[EntryKind] = EntryKind.PRENOTE


# Source: Nacha Operating Rules, Section 2.9: the company entry description of a reversing entry.
REVERSAL_DESCRIPTION: Final = "REVERSAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversalEntry(AchEntry):
    """A debit that takes a payout back, to the cent, from the account that it went to."""

    kind: ClassVar[EntryKind] = EntryKind.REVERSAL

    transaction_id: str
    reversed_entry_id: str

    @property
    def is_classed_as_debit(self) -> bool:
        return False


def build_reversal(entry: PaymentEntry, ach_entry_id: str, provider_key: str, now: datetime) -> ReversalEntry:
    """
    Args:
        entry: A payout's.
    """
    return ReversalEntry(
        **entry.list_addressed(),
        ach_entry_id=ach_entry_id,
        provider_key=provider_key,
        transaction_id=entry.transaction_id,
        reversed_entry_id=entry.ach_entry_id,
        is_inbound=True,
        amount_minor=entry.amount_minor,
        presentment=1,
        description=REVERSAL_DESCRIPTION,
        created_at=now,
        updated_at=now,
    )


ENTRY_CLASSES: Final[Mapping[EntryKind, type[AchEntry]]] = {
    each.kind: each for each in (PaymentEntry, PrenoteEntry, ReversalEntry)
}


class Due(NamedTuple):
    """An entry that may leave at a cut-off; or that never will, and why."""

    entry: AchEntry
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AchFile:
    """A file for the bank.

    Args:
        number: Of the files of its organization and day, from 0.
        leaves_by: Of one that is to settle at `settles_at`, on the day on which it leaves: what leaves later does not.
        is_acknowledged: Whether the bank is to say that it accepts it: it has not settled before.
        fetched_at: When it was found gone from where the bank fetches it: what lies there later is not ours.
        held_at: When it was taken out of the bank's way, since it was not as we released it.
        put_back_at: When it lay there again after that, as it was: the bank has not had it before.
        rejected_because: What the bank says of one that it rejected.
    """

    ach_file_id: str
    created_on: date
    number: int
    status: FileStatus = FileStatus.MADE
    entry_count: int
    debit_minor: int
    credit_minor: int
    digest: str | None = None  # as the vault makes it, of what was released
    leaves_by: datetime | None = None
    settles_at: datetime | None = None
    is_acknowledged: bool
    left_at: datetime | None = None
    fetched_at: datetime | None = None
    held_at: datetime | None = None
    put_back_at: datetime | None = None
    rejected_because: str | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def lies_there_since(self) -> datetime | None:
        """From when on the bank could fetch it; None where it has not left."""
        return self.put_back_at or self.left_at

    def is_fetched(self, now: datetime) -> bool:
        """Whether the bank has it, or had the time to, whoever looked meanwhile: it goes no second time.

        Nor does what it rejected: what is in there has failed.
        """
        if self.status is FileStatus.REJECTED:
            return True
        since = self.lies_there_since
        if self.fetched_at is not None or since is None or self.held_at is not None:
            return self.fetched_at is not None  # what was taken out of the bank's way is put back, however late
        return now.date() > add_banking_days(since.date(), GONE_AFTER_DAYS)


def sum_up(entries: Sequence[AchEntry]) -> dict[str, Any]:
    """What a file says of its entries, by the names of its fields."""
    debit_minor = sum(each.amount_minor for each in entries if each.is_inbound)
    credit_minor = sum(each.amount_minor for each in entries) - debit_minor
    return {"entry_count": len(entries), "debit_minor": debit_minor, "credit_minor": credit_minor}


def find_last_cut_off(cut_offs: Iterable[time], now: datetime) -> datetime:
    """What was ordered before it goes out. Files leave on banking days."""
    return max(moment for moment in _list_cut_offs(cut_offs, now) if moment <= now)


def find_next_cut_off(cut_offs: Iterable[time], now: datetime) -> datetime:
    """Before which what is ordered now goes out."""
    return min(moment for moment in _list_cut_offs(cut_offs, now) if moment > now)


def _list_cut_offs(cut_offs: Iterable[time], now: datetime) -> list[datetime]:
    """Those of the weeks around now, whatever holidays there are."""
    days = (now.date() + timedelta(days=ahead) for ahead in range(-7, 8))
    return [datetime.combine(day, cut_off, UTC) for day in days if is_banking_day(day) for cut_off in cut_offs]


def find_effective_day(created_on: date) -> date:
    """When what leaves on a day settles: on the next banking day."""
    return add_banking_days(created_on, 1)


def find_settlement(entry: AchEntry, file: AchFile) -> datetime | None:
    """When it settles; None while its file has not left, was taken out of the bank's way, or is not accepted. One that
    left late is late.
    """
    is_away = file.status is FileStatus.LEFT and not file.is_acknowledged and file.held_at is None
    has_gone = file.status is FileStatus.ACCEPTED or is_away
    if not has_gone or entry.effective_on is None or file.lies_there_since is None:
        return None
    return find_settlement_of_file(file, file.lies_there_since)


def find_settlement_of_file(file: AchFile, leaves_at: datetime) -> datetime:
    """When what is in a file settles that leaves then."""
    if file.settles_at is not None and file.leaves_by is not None and leaves_at < file.leaves_by:
        return file.settles_at
    day = find_effective_day(max(file.created_on, leaves_at.date()))
    return datetime.combine(day, SETTLES_AT)


def to_payment(
    entry: PaymentEntry, file: AchFile | None, now: datetime, reversal: ReversingPayment | None = None
) -> Payment:
    """The entry as a provider's payment.

    Args:
        file: The one that it was put into; None where it waits for one.
        reversal: What is to be said of the entry that takes it back.
    """
    status, at, reason = _find_state(entry, file, now)
    return Payment(
        payment_id=entry.ach_entry_id,
        reference=entry.transaction_id,
        status=status,
        amount=entry.amount,
        is_inbound=entry.is_inbound,
        presentment=entry.presentment,
        changed_at=at,
        return_code=entry.return_code or "",
        reason=reason,
        reversal=reversal,
    )


def to_reversing_payment(entry: ReversalEntry, file: AchFile | None, now: datetime) -> ReversingPayment:
    """As `to_payment`, of the entry that takes another one back."""
    status, at, reason = _find_state(entry, file, now)
    return ReversingPayment(status, at, entry.return_code or "", reason)


def _find_state(entry: AchEntry, file: AchFile | None, now: datetime) -> tuple[PaymentStatus, datetime | None, str]:
    """How it stands, since when, and why it failed where its bank says so."""
    if entry.status is EntryStatus.RETURNED:
        assert entry.returned_on is not None
        return PaymentStatus.RETURNED, datetime.combine(entry.returned_on, SETTLES_AT), ""
    if entry.status is EntryStatus.WITHDRAWN:
        return PaymentStatus.FAILED, None, ""
    if file is not None and file.status is FileStatus.REJECTED:
        return PaymentStatus.FAILED, None, f"the file was rejected: {file.rejected_because}"
    if file is not None and (settled_at := find_settlement(entry, file)) is not None and now >= settled_at:
        return PaymentStatus.SETTLED, settled_at, ""
    return PaymentStatus.PENDING, None, ""


def name_file(org_id: str, file: AchFile) -> str:
    """Under which it lies where the bank fetches it; no other file ever has it."""
    return f"{org_id}-{file.created_on:%Y%m%d}-{file.number:02d}-{file.ach_file_id}.ach"


def find_file_id(name: str) -> str:
    """Of the file of ours that has this name; empty of what has no name of ours."""
    match = _FILE_ID.search(name)
    return match[1] if match is not None else ""
