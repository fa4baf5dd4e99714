"""The thirteen states of a transaction, and every move between them; what is not in the table cannot happen.

The database has the same list, and a trigger refuses any other move (reliability rule c7).
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

from services.chassis.values.moves import Moves
from services.transactions.domain.rails import Rail


class Status(StrEnum):
    INITIATED = "INITIATED"
    PENDING_APPROVAL = "PENDING_APPROVAL"
    APPROVED = "APPROVED"
    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    PENDING_SETTLEMENT = "PENDING_SETTLEMENT"
    SETTLED = "SETTLED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"
    PENDING_RETRY = "PENDING_RETRY"
    CANCELLED = "CANCELLED"
    REVERSED = "REVERSED"


S = Status

MOVES: Moves[Status] = MappingProxyType(
    {
        S.INITIATED: frozenset({S.PENDING_APPROVAL, S.APPROVED, S.FAILED, S.CANCELLED}),
        S.PENDING_APPROVAL: frozenset({S.APPROVED, S.CANCELLED}),
        S.APPROVED: frozenset({S.QUEUED, S.CANCELLED}),
        S.QUEUED: frozenset({S.PROCESSING, S.FAILED, S.CANCELLED}),
        # Not cancellable: the provider may have taken it.
        S.PROCESSING: frozenset({S.PENDING_SETTLEMENT, S.SETTLED, S.PENDING_RETRY, S.FAILED}),
        # Cancellable only where the rail allows: see `may_cancel`.
        S.PENDING_SETTLEMENT: frozenset({S.SETTLED, S.RETURNED, S.FAILED, S.REVERSED, S.CANCELLED}),
        S.SETTLED: frozenset({S.COMPLETED, S.RETURNED, S.REVERSED}),
        S.COMPLETED: frozenset({S.RETURNED, S.REVERSED}),
        S.FAILED: frozenset({S.PENDING_RETRY}),
        S.RETURNED: frozenset({S.PENDING_RETRY}),
        S.PENDING_RETRY: frozenset({S.QUEUED, S.CANCELLED, S.FAILED}),
        S.CANCELLED: frozenset(),
        S.REVERSED: frozenset(),
    }
)

# No provider has it: what makes it pointless cancels it.
WAITING = frozenset({S.INITIATED, S.PENDING_APPROVAL, S.APPROVED, S.QUEUED, S.PENDING_RETRY})
# Its money is with us, or with whom we paid.
ARRIVED = frozenset({S.SETTLED, S.COMPLETED})
# No money of it is with us or on its way.
ENDED = frozenset({S.FAILED, S.RETURNED, S.CANCELLED, S.REVERSED})


def may_cancel(status: Status, rail: Rail, *, is_inbound: bool) -> bool:
    """Whether a person may cancel: before a provider took it; on some rails, until the money has arrived."""
    if status is S.PENDING_SETTLEMENT:
        return is_inbound and rail.is_cancellable_when_submitted
    return S.CANCELLED in MOVES[status]
