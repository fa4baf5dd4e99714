"""What the book refuses, with the facts realco/escrow/v1/error_reason.proto promises."""

from __future__ import annotations

from typing import Any

from services.chassis.values.errors import DomainError, Kind, NotFound
from services.escrow.domain.chart import LedgerAccount


def spell_account(account: LedgerAccount) -> dict[str, Any]:
    """The metadata that name a ledger account: `kind`, and `party_id` where it has one."""
    named: dict[str, Any] = {"kind": account.kind.value}
    return {**named, "party_id": account.party_id} if account.party_id else named


class HoldNotFound(NotFound):
    reason = "HOLD_NOT_FOUND"
    what = "hold"


class JournalEntryNotFound(NotFound):
    reason = "JOURNAL_ENTRY_NOT_FOUND"
    what = "journal entry"


class _Refused(DomainError):
    kind = Kind.FAILED_PRECONDITION


class InsufficientAvailableBalance(_Refused):
    """Metadata: those of spell_account, available_minor, requested_minor, currency_code."""

    reason = "INSUFFICIENT_AVAILABLE_BALANCE"


class JournalEntryUnbalanced(_Refused):
    """Metadata: debit_minor, credit_minor, currency_code."""

    reason = "JOURNAL_ENTRY_UNBALANCED"


class BalancesNotZero(_Refused):
    """Metadata: those of spell_account, posted_minor, currency_code."""

    reason = "BALANCES_NOT_ZERO"


class AlreadyReversed(_Refused):
    """Metadata: journal_entry_id."""

    reason = "ALREADY_REVERSED"


class CaptureExceedsHold(_Refused):
    """Metadata: held_minor, requested_minor, currency_code."""

    reason = "CAPTURE_EXCEEDS_HOLD"


class TooManyWaiting(DomainError):
    """More postings wait than the book can take soon."""

    kind = Kind.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"
    retry_after_seconds = 1


class PayoutNotKnown(_Refused):
    """A call asked for its money, and the transactions service is not about to pay it so. Metadata: transaction_id."""

    reason = "PAYOUT_NOT_KNOWN"
