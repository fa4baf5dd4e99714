"""One transaction as the rules see it: its facts, and what they say about attempts, approval and settlement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.values.money import Money
from services.transactions.domain.rails import RAILS, Rail
from services.transactions.domain.refusals import AttemptsExhausted, IllegalStatusChange, MakerIsChecker, NotRetryable
from services.transactions.domain.returns import PRESENTMENTS_MAX, Action, is_too_late, return_code
from services.transactions.domain.states import Status

ATTEMPTS_MAX = 3

# What each type does with the money; types that are not here are not offered yet.
DEBIT_TYPES = frozenset({"DEPOSIT", "ESCROW_DEPOSIT"})
PAYOUT_TYPES = frozenset({"DISTRIBUTION", "ESCROW_WITHDRAWAL", "REFUND"})
# A second person looks at these whatever compliance says.
ALWAYS_APPROVED_BY_A_PERSON = frozenset({"ESCROW_WITHDRAWAL"})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed or came back."""

    code: str
    message: str
    retryable: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A row of the table `transactions`. Empty text means "not set"."""

    org_id: str
    transaction_id: str
    type: str
    status: Status
    version: int
    payment_method: str
    amount: Money
    escrow_account_id: str
    party_id: str
    bank_account_id: str
    investment_id: str
    distribution_id: str
    allocation_id: str
    description: str
    failure: Failure | None
    attempts: int
    presentments: int
    next_attempt_at: datetime | None
    first_presented_at: datetime | None
    provider: str
    provider_reference: str
    dispute_status: str
    reconciliation_status: str
    created_by: str
    approved_by: str
    created_at: datetime
    updated_at: datetime
    settled_at: datetime | None
    return_risk_end_at: datetime | None
    final_at: datetime | None
    bank_reference: str
    request_subject: str
    idempotency_key: str
    epoch: int
    tries: int

    @property
    def is_debit(self) -> bool:
        """True where we pull the party's money in; a payout pushes it out."""
        return self.type in DEBIT_TYPES

    @property
    def rail(self) -> Rail:
        return RAILS[self.payment_method]

    @property
    def provider_key(self) -> str:
        """The idempotency key of the current attempt at the provider: a new one only after a definite failure."""
        return f"txn:{self.transaction_id}:{self.attempts}"

    @property
    def escrow_key(self) -> str:
        """The key under which escrow takes the money of the current attempt."""
        return f"{self.provider_key}:submit"

    def is_final(self, now: datetime) -> bool:
        """Whether the bank can no longer send it back."""
        if self.status in (Status.CANCELLED, Status.REVERSED):
            return True
        settled = self.status in (Status.SETTLED, Status.COMPLETED)
        return settled and self.final_at is not None and self.final_at <= now


def check_checker(transaction: Transaction, person: str) -> None:
    """Raises MakerIsChecker for the person who made the transaction."""
    if person == transaction.created_by:
        raise MakerIsChecker("Whoever made a transaction may not approve or confirm it.")


def check_retry(transaction: Transaction, now: datetime) -> None:
    """Whether a person may ask for another attempt now.

    Raises:
        IllegalStatusChange: it neither failed nor came back, nor waits for another attempt.
        NotRetryable: the failure is final; payouts are sent again as new transactions, never as a second attempt.
        AttemptsExhausted: every allowed attempt was made.
    """
    if transaction.status is Status.PENDING_RETRY:
        check_window(transaction, now)
        return
    if transaction.status not in (Status.FAILED, Status.RETURNED):
        raise IllegalStatusChange(transaction.status, Status.PENDING_RETRY)
    code = transaction.failure.code if transaction.failure else ""
    if transaction.is_debit:
        check_attempts(transaction)  # first: the last attempt's failure is not marked retryable, for want of attempts
    may_again = transaction.is_debit and (
        return_code(code).action is Action.REPRESENT
        if transaction.status is Status.RETURNED
        else transaction.failure is not None and transaction.failure.retryable
    )
    if not may_again:
        raise NotRetryable(f"{code or transaction.status} is final: make a new transaction.", code=code)
    check_window(transaction, now)


def check_attempts(transaction: Transaction) -> None:
    """Raises AttemptsExhausted if no attempt is left."""
    if transaction.attempts >= ATTEMPTS_MAX or transaction.presentments >= PRESENTMENTS_MAX:
        raise AttemptsExhausted("Every allowed attempt was made.", attempts=transaction.attempts)


def check_window(transaction: Transaction, now: datetime) -> None:
    """Raises NotRetryable for a debit that was presented, and may not be again for being too old."""
    first = transaction.first_presented_at
    if transaction.is_debit and transaction.presentments and first is not None and is_too_late(first, now):
        message = "Its 180 days from the first presentment are over: make a new transaction."
        raise NotRetryable(message, first_presented=first.isoformat())
