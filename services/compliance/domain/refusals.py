"""The refusals of compliance, one class a reason."""

from __future__ import annotations

from services.chassis.values.errors import DomainError, Kind, NotFound


class ComplianceCheckNotFound(NotFound):
    reason = "COMPLIANCE_CHECK_NOT_FOUND"
    what = "compliance check"


class PersonNotFound(NotFound):
    reason = "PERSON_NOT_FOUND"
    what = "person of the party"


class TransactionLimitNotFound(NotFound):
    reason = "TRANSACTION_LIMIT_NOT_FOUND"
    what = "limit in force"


class TransactionLimitIsDefault(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TRANSACTION_LIMIT_IS_DEFAULT"


class TooManyPersons(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_PERSONS"


class TooManyParties(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_PARTIES"


class TransactionLimitExceeded(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TRANSACTION_LIMIT_EXCEEDED"


class MovementNotDecided(DomainError):
    """No two persons said of their own that this money is to move."""

    kind = Kind.FAILED_PRECONDITION
    reason = "MOVEMENT_NOT_DECIDED"


class JustDecided(DomainError):
    """Enough persons have just said so, and the money is about to move."""

    kind = Kind.ABORTED
    reason = "JUST_DECIDED"
    retry_after_seconds = 2

    def __init__(self) -> None:
        super().__init__("It was decided just now, and is being done: read it again.")


class ApiKeyNotFound(NotFound):
    reason = "API_KEY_NOT_FOUND"
    what = "API key"


class TooManyApiKeys(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_API_KEYS"


class NotHolderOfKey(DomainError):
    kind = Kind.PERMISSION_DENIED
    reason = "NOT_HOLDER_OF_KEY"
