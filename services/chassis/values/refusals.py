"""The refusals that more than one service finds: one fact has one reason, one message and the same metadata.

Their reasons stand in realco/type/v1/error_reason.proto. What one service alone refuses is in its domain/refusals.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.chassis.values.errors import DomainError, Kind, NotFound


class IdempotencyKeyReused(DomainError):
    """The key belongs to another request."""

    kind = Kind.FAILED_PRECONDITION
    reason = "IDEMPOTENCY_KEY_REUSED"


class PartyNotFound(NotFound):
    reason = "PARTY_NOT_FOUND"
    what = "party"


class EscrowAccountNotFound(NotFound):
    reason = "ESCROW_ACCOUNT_NOT_FOUND"
    what = "escrow account"


class InvestmentNotFound(NotFound):
    """Also where it is another party's than the request is about."""

    reason = "INVESTMENT_NOT_FOUND"
    what = "investment"
    whose = "of the party"


class BankAccountNotFound(NotFound):
    """Also where it is another party's than the money is: nobody learns that somebody else has it."""

    reason = "BANK_ACCOUNT_NOT_FOUND"
    what = "bank account"
    whose = "of the party"


class BankAccountNotUsable(DomainError):
    """It is blocked or retired, or money is to go to it and nobody has confirmed it."""

    kind = Kind.FAILED_PRECONDITION
    reason = "BANK_ACCOUNT_NOT_USABLE"


class MakerIsChecker(DomainError):
    """Nobody approves or clears what they made themselves. The message says what, and whom to ask."""

    kind = Kind.PERMISSION_DENIED
    reason = "MAKER_IS_CHECKER"


class IllegalStatusChange(DomainError):
    """The status that the resource has does not allow it.

    Args:
        wanted: The status that it was to have.
    """

    kind = Kind.FAILED_PRECONDITION
    reason = "ILLEGAL_STATUS_CHANGE"

    def __init__(self, status: str, wanted: str, message: str = "") -> None:
        message = message or f"The status cannot go from {status} to {wanted}."
        super().__init__(message, status=status, wanted_status=wanted)


class CurrencyMismatch(DomainError):
    """The amount is in another currency than what it is for.

    Args:
        expected: The currency that it must be in.
        field: The request's field that says another one, if one does.
    """

    kind = Kind.FAILED_PRECONDITION
    reason = "CURRENCY_MISMATCH"

    def __init__(self, expected: str, field: str | None = None) -> None:
        fields = {field: f"must be {expected}"} if field else None
        super().__init__(f"The amount must be in {expected}.", fields=fields, currency_code=expected)


def check_currency(currency: str, expected: str, field: str | None = None) -> None:
    """Raises CurrencyMismatch, which names the field that says `currency`."""
    if currency != expected:
        raise CurrencyMismatch(expected, field)


class EscrowAccountFrozen(DomainError):
    """Nothing moves until it is unfrozen."""

    kind = Kind.FAILED_PRECONDITION
    reason = "ESCROW_ACCOUNT_FROZEN"

    def __init__(self, escrow_account_id: str, field: str | None = None) -> None:
        fields = {field: "is frozen"} if field else None
        super().__init__("The escrow account is frozen.", fields=fields, escrow_account_id=escrow_account_id)


class EscrowAccountClosed(DomainError):
    """Nothing moves any more."""

    kind = Kind.FAILED_PRECONDITION
    reason = "ESCROW_ACCOUNT_CLOSED"

    def __init__(self, escrow_account_id: str, field: str | None = None) -> None:
        fields = {field: "is closed"} if field else None
        super().__init__("The escrow account is closed.", fields=fields, escrow_account_id=escrow_account_id)


class NameFixed(DomainError):
    """People know money by this name: who swaps two of them has colleagues ask for what they do not mean."""

    kind = Kind.FAILED_PRECONDITION
    reason = "NAME_FIXED"

    def __init__(self, message: str) -> None:
        super().__init__(message, fields={"display_name": "does not change any more"})


class SumTooLarge(DomainError):
    """An amount is a number of 64 bits; what many of them add up to may be none."""

    kind = Kind.FAILED_PRECONDITION
    reason = "SUM_TOO_LARGE"

    def __init__(self) -> None:
        super().__init__("What was booked adds up to more than an amount can say: reverse what is not meant.")


class OfferingNotOpen(DomainError):
    """The offering takes no investments, contributions or changes now."""

    kind = Kind.FAILED_PRECONDITION
    reason = "OFFERING_NOT_OPEN"

    def __init__(self, message: str, status: str, deadline_at: datetime) -> None:
        super().__init__(message, status=status, deadline_time=deadline_at)


class PartyNotCleared(DomainError):
    """No money of the party may move.

    Args:
        missing: What its clearance lacks: each check, and in words how it stands.
    """

    kind = Kind.FAILED_PRECONDITION
    reason = "PARTY_NOT_CLEARED"

    def __init__(self, party_id: str, missing: Mapping[str, str]) -> None:
        message = f"The party is not cleared: {'; '.join(missing.values())}."
        super().__init__(message, party_id=party_id, check_types=list(missing))


class ContentChanged(DomainError):
    """What waits is not what was seen."""

    kind = Kind.FAILED_PRECONDITION
    reason = "CONTENT_CHANGED"


class ContentOutdated(DomainError):
    """What waits would do something else by now than what was asked for."""

    kind = Kind.FAILED_PRECONDITION
    reason = "CONTENT_OUTDATED"


class RateLimited(DomainError):
    """More is asked for at once than there is room for."""

    kind = Kind.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"
    retry_after_seconds = 1
