"""A check of a party, or the one that holds the decision about a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.chassis.values.explanation import Explanation
from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.chassis.values.moves import Moves


class CheckStatus(StrEnum):
    MANUAL_REVIEW = "MANUAL_REVIEW"
    PASSED = "PASSED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"


S = CheckStatus

# A transaction's check is decided when it is made; a party's waits for a person, whose answer runs out, or is about
# facts that are others by now.
CHECK_MOVES: Final[Moves[CheckStatus]] = {
    S.MANUAL_REVIEW: frozenset({S.PASSED, S.FAILED, S.EXPIRED}),
    S.PASSED: frozenset({S.EXPIRED}),
    S.FAILED: frozenset(),
    S.EXPIRED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplianceCheck:
    """Changed under the lock of its party alone.

    Args:
        direction: Of a transaction, as the amount: what was decided on.
        makers: Who wrote the facts of the party that it is about: none of them decides it.
        note: On what evidence a person decided.
    """

    compliance_check_id: str
    check_type: str
    status: CheckStatus
    resource_type: str
    resource_id: str
    party_id: str
    direction: str | None = None
    amount: Money | None = None
    failure: Failure | None = None
    explanation: Explanation | None = None
    makers: tuple[str, ...] = ()
    note: str | None = None
    reviewed_by: str | None = None
    reviewed_at: datetime | None = None
    expires_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
