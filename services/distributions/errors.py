"""The refusals of this service that no domain rule raises; reasons are those of distributions/v1/error_reason.proto."""

from __future__ import annotations

from services.chassis.values.errors import DomainError, Kind


class OfferingNotFound(DomainError):
    """No such offering in the caller's organization."""

    kind = Kind.NOT_FOUND
    reason = "OFFERING_NOT_FOUND"


class InvestmentNotFound(DomainError):
    """No such investment that the caller may see."""

    kind = Kind.NOT_FOUND
    reason = "INVESTMENT_NOT_FOUND"


class DistributionNotFound(DomainError):
    """No such distribution in the caller's organization."""

    kind = Kind.NOT_FOUND
    reason = "DISTRIBUTION_NOT_FOUND"


class AllocationNotFound(DomainError):
    """No such allocation of this distribution."""

    kind = Kind.NOT_FOUND
    reason = "ALLOCATION_NOT_FOUND"


class EscrowAccountNotUsable(DomainError):
    """Unknown, not active, of another currency, or used by another offering; frozen or closed, to execute."""

    kind = Kind.FAILED_PRECONDITION
    reason = "ESCROW_ACCOUNT_NOT_USABLE"


class TermsFixed(DomainError):
    """Somebody invested on these terms."""

    kind = Kind.FAILED_PRECONDITION
    reason = "TERMS_FIXED"


class OfferingNotOpen(DomainError):
    """The offering takes no investments, or no changes, now."""

    kind = Kind.FAILED_PRECONDITION
    reason = "OFFERING_NOT_OPEN"


class OfferingFull(DomainError):
    """The investment would pass the offering's maximum."""

    kind = Kind.FAILED_PRECONDITION
    reason = "OFFERING_FULL"


class CancellationWindowOver(DomainError):
    """Less than 48 hours are left before the deadline."""

    kind = Kind.FAILED_PRECONDITION
    reason = "CANCELLATION_WINDOW_OVER"


class OfferingNotClosed(DomainError):
    """Only a closed offering distributes."""

    kind = Kind.FAILED_PRECONDITION
    reason = "OFFERING_NOT_CLOSED"


class CurrencyMismatch(DomainError):
    """The amount is not in the offering's currency."""

    kind = Kind.FAILED_PRECONDITION
    reason = "CURRENCY_MISMATCH"


class NotCalculated(DomainError):
    """There is nothing to approve yet."""

    kind = Kind.FAILED_PRECONDITION
    reason = "NOT_CALCULATED"


class NotApproved(DomainError):
    """Only an approved distribution is executed."""

    kind = Kind.FAILED_PRECONDITION
    reason = "NOT_APPROVED"


class InsufficientDistributableCash(DomainError):
    """Escrow holds less distributable cash than the distribution pays."""

    kind = Kind.FAILED_PRECONDITION
    reason = "INSUFFICIENT_DISTRIBUTABLE_CASH"


class AllocationNotFailed(DomainError):
    """Only what failed or came back is sent again."""

    kind = Kind.FAILED_PRECONDITION
    reason = "ALLOCATION_NOT_FAILED"


class DistributionInProgress(DomainError):
    """Another distribution of the offering is being declared."""

    kind = Kind.FAILED_PRECONDITION
    reason = "DISTRIBUTION_IN_PROGRESS"
