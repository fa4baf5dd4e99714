"""The refusals of this service; their reasons are those of distributions/v1/error_reason.proto."""

from __future__ import annotations

from datetime import datetime

from services.chassis.values.errors import DomainError, Kind, NotFound, Unavailable


class OfferingNotFound(NotFound):
    """No such offering in the caller's organization."""

    reason = "OFFERING_NOT_FOUND"
    what = "offering"


class DistributionNotFound(NotFound):
    """No such distribution that the caller may see."""

    reason = "DISTRIBUTION_NOT_FOUND"
    what = "distribution"


class AllocationNotFound(NotFound):
    """No such allocation of this distribution that the caller may see."""

    reason = "ALLOCATION_NOT_FOUND"
    what = "allocation"


class TermsInvalid(DomainError):
    """The terms contradict themselves. ``fields`` names each field and what is wrong with it."""

    kind = Kind.INVALID_ARGUMENT
    reason = "TERMS_INVALID"


class EscrowAccountInUse(DomainError):
    """Another offering's money is in it."""

    kind = Kind.FAILED_PRECONDITION
    reason = "ESCROW_ACCOUNT_IN_USE"


class SponsorMismatch(DomainError):
    """The escrow account holds money for another sponsor."""

    kind = Kind.FAILED_PRECONDITION
    reason = "SPONSOR_MISMATCH"


class TermsFixed(DomainError):
    """Somebody invested on these terms."""

    kind = Kind.FAILED_PRECONDITION
    reason = "TERMS_FIXED"


class OfferingFull(DomainError):
    """The investment would pass the offering's maximum."""

    kind = Kind.FAILED_PRECONDITION
    reason = "OFFERING_FULL"


class InvestmentEndedByStaff(DomainError):
    """Two persons of staff ended an investment of the party in the offering."""

    kind = Kind.FAILED_PRECONDITION
    reason = "INVESTMENT_ENDED_BY_STAFF"


class TooManyInvestments(DomainError):
    """The person has committed the party as often in the offering as one may."""

    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_INVESTMENTS"


class ClosingGatesNotMet(DomainError):
    """The offering may not close yet."""

    kind = Kind.FAILED_PRECONDITION
    reason = "CLOSING_GATES_NOT_MET"


class OfferingNotCounted(Unavailable):
    """Its sums of what was contributed are worked out anew. Once they are, the same request counts."""

    reason = "OFFERING_NOT_COUNTED"
    retry_after_seconds = 5

    def __init__(self, since: datetime) -> None:
        super().__init__("What was contributed to the offering is being counted anew: ask again.", wait_time=since)


class CancellationWindowOver(DomainError):
    """Less than 48 hours are left before the deadline."""

    kind = Kind.FAILED_PRECONDITION
    reason = "CANCELLATION_WINDOW_OVER"


class OfferingNotClosed(DomainError):
    """Only a closed offering distributes."""

    kind = Kind.FAILED_PRECONDITION
    reason = "OFFERING_NOT_CLOSED"


class NothingContributed(DomainError):
    """No capital was in the offering before the distribution's date, so nobody can be paid."""

    kind = Kind.FAILED_PRECONDITION
    reason = "NOTHING_TO_ALLOCATE"


class OutOfDateOrder(DomainError):
    """The distribution is dated before an earlier distribution or before the contributions it would pay on."""

    kind = Kind.FAILED_PRECONDITION
    reason = "DATE_OUT_OF_ORDER"


class DistributionNotDue(DomainError):
    """Its date is yet to come: a draft may be dated ahead, and nothing is paid before that day."""

    kind = Kind.FAILED_PRECONDITION
    reason = "DISTRIBUTION_NOT_DUE"


class NotCalculated(DomainError):
    """There is nothing to approve yet."""

    kind = Kind.FAILED_PRECONDITION
    reason = "NOT_CALCULATED"


class InsufficientDistributableCash(DomainError):
    """Escrow holds less distributable cash than the distribution pays."""

    kind = Kind.FAILED_PRECONDITION
    reason = "INSUFFICIENT_DISTRIBUTABLE_CASH"


class MovementNotOrdered(DomainError):
    """Just this is not about to be moved: whatever persons decided, it was not written that it is to be done."""

    kind = Kind.FAILED_PRECONDITION
    reason = "MOVEMENT_NOT_ORDERED"


class DistributionInProgress(DomainError):
    """Another distribution of the offering is being declared."""

    kind = Kind.FAILED_PRECONDITION
    reason = "DISTRIBUTION_IN_PROGRESS"


class NothingToResend(DomainError):
    """No attempt to pay it has failed, whatever the status, or nothing of it may go now."""

    kind = Kind.FAILED_PRECONDITION
    reason = "NOTHING_TO_RESEND"
