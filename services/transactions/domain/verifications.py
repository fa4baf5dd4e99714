"""A bank account that its holder verifies with a payment provider before the first payment: how that stands, its use.

The provider deposits a cent there, and the holder types the code beside it on a page of the provider's. Later payments
use what was verified, and wait for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from services.chassis.values.failure import Failure, make_failure
from services.chassis.values.moves import Moves
from services.transactions.domain.bank_accounts import BankAccount, BankAccountStatus
from services.transactions.domain.refusals import BankAccountBlocked, TooManyVerifications

# House rules: each has the provider deposit a cent, and is a new code to guess.
FAILED_MAX: Final = 3
FAILED_WITHIN: Final = timedelta(days=30)


class VerificationStatus(StrEnum):
    REQUESTED = "REQUESTED"
    WAITING = "WAITING"
    VERIFIED = "VERIFIED"
    FAILED = "FAILED"


S = VerificationStatus

VERIFICATION_MOVES: Final[Moves[VerificationStatus]] = {
    S.REQUESTED: frozenset({S.WAITING, S.VERIFIED, S.FAILED}),
    S.WAITING: frozenset({S.VERIFIED, S.FAILED}),
    # Its holder has taken the mandate back, or a bank's return forbids the account.
    S.VERIFIED: frozenset({S.FAILED}),
    S.FAILED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """
    Args:
        account_number_digest: Of the number that is verified: it is worth nothing for another one.
        provider_reference: The provider's id; None until it has answered.
        action_url: Where the holder types the code, while it is WAITING.
        expires_at: When the provider ends it.
    """

    verification_id: str
    bank_account_id: str
    account_number_digest: str
    provider: str
    provider_reference: str | None = None
    status: VerificationStatus = S.REQUESTED
    action_url: str | None = None
    expires_at: datetime | None = None
    failure: Failure | None = None
    verified_at: datetime | None = None
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def is_open(self) -> bool:
        return self.status is not S.FAILED

    @property
    def has_ended(self) -> bool:
        """It was VERIFIED once, and is not any more."""
        return self.status is S.FAILED and self.verified_at is not None

    @property
    def provider_key(self) -> str:
        """Under which the provider begins it once."""
        return f"verify:{self.verification_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderVerification:
    """A verification as its provider has it now.

    Args:
        reference: Our id of it; empty of one that we did not ask for so.
        account: Routing number and last four digits; None where the provider does not say any more.
        is_misused: It bears words of ours, and is not what we asked for by them.
    """

    provider_reference: str
    reference: str
    status: VerificationStatus
    account: tuple[str, str] | None = None
    action_url: str = ""
    expires_at: datetime | None = None
    failure: Failure | None = None
    is_misused: bool = False


class Arrived(NamedTuple):
    """The last payment that arrived from an account: the provider's id of it, and when it was made."""

    provider_reference: str
    created_at: datetime


class DebitBasis(NamedTuple):
    """By what its provider knows an account, each by the provider's id: neither where its holder has to confirm it."""

    confirmed_payment_id: str = ""
    verification_id: str = ""


class VerificationNeed(NamedTuple):
    """What its holder is told of an account.

    Args:
        is_needed: A payment from it would wait for a code, were it not for the verification.
    """

    is_needed: bool
    verification: Verification | None = None

    @property
    def is_left_to_verify(self) -> bool:
        is_verified = self.verification is not None and self.verification.status is S.VERIFIED
        return self.is_needed and not is_verified


def choose_debit_basis(verifications: Sequence[Verification], arrived: Arrived | None, digest: str) -> DebitBasis:
    """What a debit goes by.

    A payment that was made before a verification ended may have gone by what ended, so it confirms nothing.

    Args:
        verifications: All of the account at this provider, the newest first.
        digest: Of the number that is to be drawn from.
    """
    for each in verifications:
        if each.status is S.VERIFIED and each.account_number_digest == digest:
            return DebitBasis(verification_id=each.provider_reference or "")
    ended_at = max((each.updated_at for each in verifications if each.has_ended), default=None)
    if arrived is None or (ended_at is not None and arrived.created_at <= ended_at):
        return DebitBasis()
    return DebitBasis(confirmed_payment_id=arrived.provider_reference)


def may_be_verified(account: BankAccount) -> bool:
    """It is confirmed here, and used for what comes."""
    return account.status is BankAccountStatus.ACTIVE and account.replaced_by_bank_account_id is None


def find_need(
    account: BankAccount, verifications: Sequence[Verification], arrived: Arrived | None
) -> VerificationNeed | None:
    """None of an account that nobody may verify: it is not confirmed here, or is used no more.

    Args:
        verifications: As `choose_debit_basis` takes them.
    """
    if not may_be_verified(account):
        return None
    latest = next(iter(verifications), None)
    if latest is not None and latest.is_open:
        return VerificationNeed(is_needed=True, verification=latest)
    is_known = choose_debit_basis(verifications, arrived, account.account_number_digest) != DebitBasis()
    return VerificationNeed(is_needed=False) if is_known else VerificationNeed(is_needed=True, verification=latest)


def check_may_begin(earlier: Iterable[Verification], now: datetime) -> None:
    """
    Args:
        earlier: All of the account.

    Raises: TooManyVerifications.
    """
    since = now - FAILED_WITHIN
    if sum(each.status is S.FAILED and each.created_at > since for each in earlier) >= FAILED_MAX:
        raise TooManyVerifications(FAILED_MAX, FAILED_WITHIN.days)


def find_difference(verification: Verification, account: BankAccount, theirs: ProviderVerification) -> str:
    """In what the provider's answer is not about our verification; empty if it is."""
    ours = verification.provider_reference
    if ours is not None and theirs.provider_reference != ours:
        return "id"
    if theirs.account not in (None, (account.routing_number, account.account_number_last4)):
        return "bank account"
    return "" if theirs.reference == verification.verification_id else "reference"


def follow(verification: Verification, theirs: ProviderVerification, now: datetime) -> Verification:
    """Where the provider has it; the same where we know more already."""
    is_move = theirs.status in VERIFICATION_MOVES[verification.status]
    is_page = theirs.status is verification.status is S.WAITING
    if not is_move and not is_page:
        return verification
    return replace(
        verification,
        provider_reference=theirs.provider_reference,
        status=theirs.status,
        action_url=theirs.action_url or None,
        expires_at=theirs.expires_at if theirs.status is S.WAITING else None,
        failure=theirs.failure,
        verified_at=now if theirs.status is S.VERIFIED else verification.verified_at,
    )


def fail(verification: Verification, failure: Failure) -> Verification:
    return replace(verification, status=S.FAILED, action_url=None, expires_at=None, failure=failure)


def end_of_blocked(verification: Verification) -> Verification:
    """A bank's return forbids its account. That it was VERIFIED counts no more, whoever unblocks the account later."""
    return fail(verification, make_failure(BankAccountBlocked(verification.bank_account_id)))
