"""What the book refuses, with the facts realco/escrow/v1/error_reason.proto promises."""

from __future__ import annotations

from typing import Any

from services.chassis.values.errors import DomainError, Kind
from services.escrow.domain.chart import LedgerAccount


def spell_account(account: LedgerAccount) -> dict[str, Any]:
    """The metadata that name a ledger account: `kind`, and `party_id` where it has one."""
    named: dict[str, Any] = {"kind": account.kind.value}
    return {**named, "party_id": account.party_id} if account.party_id else named


class EscrowAccountNotFound(DomainError):
    kind = Kind.NOT_FOUND
    reason = "ESCROW_ACCOUNT_NOT_FOUND"


class HoldNotFound(DomainError):
    kind = Kind.NOT_FOUND
    reason = "HOLD_NOT_FOUND"


class JournalEntryNotFound(DomainError):
    kind = Kind.NOT_FOUND
    reason = "JOURNAL_ENTRY_NOT_FOUND"


class _Refused(DomainError):
    kind = Kind.FAILED_PRECONDITION


class InsufficientAvailableBalance(_Refused):
    """Metadata: those of spell_account, available_minor, requested_minor."""

    reason = "INSUFFICIENT_AVAILABLE_BALANCE"


class JournalEntryUnbalanced(_Refused):
    """Metadata: debit_minor, credit_minor."""

    reason = "JOURNAL_ENTRY_UNBALANCED"


class EscrowAccountFrozen(_Refused):
    """Metadata: escrow_account_id."""

    reason = "ESCROW_ACCOUNT_FROZEN"


class EscrowAccountClosed(_Refused):
    """Metadata: escrow_account_id."""

    reason = "ESCROW_ACCOUNT_CLOSED"


class BalancesNotZero(_Refused):
    """Metadata: those of spell_account, posted_minor."""

    reason = "BALANCES_NOT_ZERO"


class CurrencyMismatch(_Refused):
    """Metadata: expected."""

    reason = "CURRENCY_MISMATCH"


class AlreadyReversed(_Refused):
    """Metadata: journal_entry_id."""

    reason = "ALREADY_REVERSED"


class HoldNotOpen(_Refused):
    """Metadata: hold_id, status."""

    reason = "HOLD_NOT_OPEN"


class CaptureExceedsHold(_Refused):
    """Metadata: held_minor, requested_minor."""

    reason = "CAPTURE_EXCEEDS_HOLD"


class IllegalStatusChange(_Refused):
    """Metadata: from, to."""

    reason = "ILLEGAL_STATUS_CHANGE"


class TooManyWaiting(DomainError):
    """More postings wait than the book can take soon."""

    kind = Kind.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"
    retry_after_seconds = 1
