"""Reversals of payouts that were paid in error: an axis beside the status, for the money is with whom we paid until the
debit that takes it back counts.

Such a debit is drawn like any other, and so it comes back like any other. It counts, and the payout has come back by
it, once the days are over in which a bank sends a debit back for want of money or of an account. What a bank does after
that, or with the payout itself meanwhile, is told by `find_next`: the book has it once, whatever comes.

Source: Nacha Operating Rules, Section 2.9 (reversing entries: five banking days, the same amount, REVERSAL).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from services.chassis.values.failure import Failure, read_failure, write_failure
from services.chassis.values.moves import Moves
from services.transactions.domain.payments import PaymentStatus


class ReversalStatus(StrEnum):
    """COMPLETED is what the book has: the payout came back by it. RETURNED came back after that. DRAWN_IN_EXCESS stayed
    though the payout had come back by itself.
    """

    ORDERED = "ORDERED"
    SETTLED = "SETTLED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"
    DRAWN_IN_EXCESS = "DRAWN_IN_EXCESS"


class ReversalReason(StrEnum):
    """Why a payout was paid in error: Nacha allows no reversal for another reason that is ours."""

    DUPLICATE = "DUPLICATE"
    WRONG_RECEIVER = "WRONG_RECEIVER"
    WRONG_AMOUNT = "WRONG_AMOUNT"


S = ReversalStatus
# It may yet take money back that no book has.
UNDER_WAY: Final = (S.ORDERED, S.SETTLED)
# The transaction came back by it, whatever became of it since.
COUNTED: Final = frozenset({S.COMPLETED, S.RETURNED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """How a payout is being taken back.

    Args:
        settled_at: When the debit was drawn.
        risk_end_at: From when it counts, if it has not come back by then.
        ended_at: When it was known to count, to have failed, or to have come back.
        failure: Why it failed, or came back.
    """

    status: ReversalStatus = S.ORDERED
    reason: ReversalReason
    ordered_at: datetime
    settled_at: datetime | None = None
    risk_end_at: datetime | None = None
    ended_at: datetime | None = None
    failure: Failure | None = None

    @property
    def is_under_way(self) -> bool:
        return self.status in UNDER_WAY


def list_reversal_columns(reversal: Reversal | None) -> dict[str, Any]:
    """As the columns of the transaction's row."""
    return {
        "reversal_status": None if reversal is None else reversal.status.value,
        "reversal_reason": None if reversal is None else reversal.reason.value,
        "reversal_ordered_at": None if reversal is None else reversal.ordered_at,
        "reversal_settled_at": None if reversal is None else reversal.settled_at,
        "reversal_risk_end_at": None if reversal is None else reversal.risk_end_at,
        "reversal_ended_at": None if reversal is None else reversal.ended_at,
        "reversal_failure": None if reversal is None else write_failure(reversal.failure),
    }


def read_reversal(columns: Any) -> Reversal | None:
    """Of the columns of a row, by their names."""
    if columns["reversal_status"] is None:
        return None
    return Reversal(
        status=ReversalStatus(columns["reversal_status"]),
        reason=ReversalReason(columns["reversal_reason"]),
        ordered_at=columns["reversal_ordered_at"],
        settled_at=columns["reversal_settled_at"],
        risk_end_at=columns["reversal_risk_end_at"],
        ended_at=columns["reversal_ended_at"],
        failure=read_failure(columns["reversal_failure"]),
    )


REVERSAL_MOVES: Final[Moves[ReversalStatus]] = {
    S.ORDERED: frozenset({S.SETTLED, S.FAILED, S.COMPLETED, S.DRAWN_IN_EXCESS}),
    S.SETTLED: frozenset({S.FAILED, S.COMPLETED, S.DRAWN_IN_EXCESS}),
    S.COMPLETED: frozenset({S.RETURNED, S.FAILED, S.DRAWN_IN_EXCESS}),
    S.RETURNED: frozenset({S.FAILED}),
    S.DRAWN_IN_EXCESS: frozenset({S.FAILED}),
    S.FAILED: frozenset(),
}
_NOT_DRAWN: Final = (PaymentStatus.FAILED, PaymentStatus.CANCELLED, PaymentStatus.RETURNED)


def find_next(
    status: ReversalStatus, said: PaymentStatus | None, *, has_come_back: bool, is_over: bool = False
) -> ReversalStatus:
    """How a reversal stands by what its provider says.

    Args:
        said: Of the debit that reverses; None where it says nothing of it.
        has_come_back: Whether the provider says of the payout itself that it came back.
        is_over: Whether the debit has been there for so long that it counts.
    """
    match status:
        case S.ORDERED | S.SETTLED:
            if said in _NOT_DRAWN:
                return S.FAILED
            if said is PaymentStatus.SETTLED and is_over:
                return S.DRAWN_IN_EXCESS if has_come_back else S.COMPLETED
            return S.SETTLED if said is PaymentStatus.SETTLED else status
        case S.COMPLETED:
            if said in _NOT_DRAWN:
                return S.FAILED if has_come_back else S.RETURNED
            return S.DRAWN_IN_EXCESS if has_come_back else status
        case S.RETURNED:
            return S.FAILED if has_come_back else status
        case S.DRAWN_IN_EXCESS:
            return S.FAILED if said in _NOT_DRAWN else status
        case S.FAILED:
            return status
