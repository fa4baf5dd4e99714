"""The refusals of compliance, one class a reason."""

from __future__ import annotations

from services.chassis.values.errors import DomainError, Kind, NotFound


class PartyNotFound(NotFound):
    reason = "PARTY_NOT_FOUND"


class ComplianceCheckNotFound(NotFound):
    reason = "COMPLIANCE_CHECK_NOT_FOUND"


class CheckNotInReview(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "CHECK_NOT_IN_REVIEW"


class MakerIsChecker(DomainError):
    kind = Kind.PERMISSION_DENIED
    reason = "MAKER_IS_CHECKER"


class TooManyPersons(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_PERSONS"
