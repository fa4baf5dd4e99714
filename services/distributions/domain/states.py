"""The statuses of an offering, an investment, a distribution, an allocation and a payout, and the moves between them.

No status changes but by a move of these tables: code asks `check_move`, and a trigger of the database refuses the rest.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from services.chassis.values.moves import Moves


class OfferingStatus(Enum):
    OPEN = "OPEN"
    CLOSING = "CLOSING"  # every gate was open; escrow is releasing the subscriptions
    CLOSED = "CLOSED"
    REFUNDING = "REFUNDING"
    REFUNDED = "REFUNDED"


# A raise that ended without closing: no closing took anything of it.
UNTAKEN = frozenset({OfferingStatus.REFUNDING, OfferingStatus.REFUNDED})
# No money of a raise is wanted any more. What comes late, or comes back, opens one that was REFUNDED again.
RAISE_ENDED = frozenset({OfferingStatus.CLOSED, OfferingStatus.REFUNDED})


class InvestmentStatus(Enum):
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    CANCELLING = "CANCELLING"  # it takes no more money; what came in, or still comes, goes back
    CANCELLED = "CANCELLED"  # nothing of its money is here or on its way
    RECONFIRM_REQUIRED = "RECONFIRM_REQUIRED"  # a material change: reconfirm in time, or the money goes back


class DistributionStatus(Enum):
    DRAFT = "DRAFT"
    PENDING_APPROVAL = "PENDING_APPROVAL"
    APPROVED = "APPROVED"
    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    PARTIALLY_FAILED = "PARTIALLY_FAILED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class PayoutStatus(Enum):
    """How one attempt to pay somebody stands."""

    REQUESTED = "REQUESTED"
    CREATED = "CREATED"  # it is a transaction
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"


class AllocationStatus(Enum):
    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    ON_HOLD = "ON_HOLD"
    RETURNED = "RETURNED"  # paid, and its bank sent it back, or it was taken back


OFFERING_MOVES: Final[Moves[OfferingStatus]] = {
    OfferingStatus.OPEN: frozenset({OfferingStatus.CLOSING, OfferingStatus.REFUNDING}),
    # Back to OPEN only when escrow definitely refused the release: all investors are released or none.
    OfferingStatus.CLOSING: frozenset({OfferingStatus.CLOSED, OfferingStatus.OPEN}),
    OfferingStatus.REFUNDING: frozenset({OfferingStatus.REFUNDED}),
    OfferingStatus.CLOSED: frozenset(),
    # Money of an investment is here again: it came late, or a refund came back.
    OfferingStatus.REFUNDED: frozenset({OfferingStatus.REFUNDING}),
}

INVESTMENT_MOVES: Final[Moves[InvestmentStatus]] = {
    InvestmentStatus.PENDING: frozenset(
        {InvestmentStatus.ACTIVE, InvestmentStatus.CANCELLING, InvestmentStatus.RECONFIRM_REQUIRED}
    ),
    InvestmentStatus.RECONFIRM_REQUIRED: frozenset({InvestmentStatus.PENDING, InvestmentStatus.CANCELLING}),
    InvestmentStatus.ACTIVE: frozenset({InvestmentStatus.COMPLETED}),
    InvestmentStatus.COMPLETED: frozenset(),
    InvestmentStatus.CANCELLING: frozenset({InvestmentStatus.CANCELLED}),
    # Money of it is here again, or on its way.
    InvestmentStatus.CANCELLED: frozenset({InvestmentStatus.CANCELLING}),
}

DISTRIBUTION_MOVES: Final[Moves[DistributionStatus]] = {
    DistributionStatus.DRAFT: frozenset({DistributionStatus.PENDING_APPROVAL, DistributionStatus.CANCELLED}),
    # Back to DRAFT: rejected, or edited. An edit takes even an approval away, because it changes what was approved.
    DistributionStatus.PENDING_APPROVAL: frozenset(
        {DistributionStatus.APPROVED, DistributionStatus.DRAFT, DistributionStatus.CANCELLED}
    ),
    DistributionStatus.APPROVED: frozenset(
        {DistributionStatus.QUEUED, DistributionStatus.DRAFT, DistributionStatus.CANCELLED}
    ),
    # Not cancellable from here on: what was asked of escrow and the banks may have happened.
    DistributionStatus.QUEUED: frozenset({DistributionStatus.PROCESSING, DistributionStatus.FAILED}),
    DistributionStatus.PROCESSING: frozenset(
        {DistributionStatus.COMPLETED, DistributionStatus.PARTIALLY_FAILED, DistributionStatus.FAILED}
    ),
    DistributionStatus.PARTIALLY_FAILED: frozenset({DistributionStatus.PROCESSING}),
    DistributionStatus.FAILED: frozenset({DistributionStatus.PROCESSING}),
    # A payout that was paid may still come back.
    DistributionStatus.COMPLETED: frozenset({DistributionStatus.PARTIALLY_FAILED}),
    DistributionStatus.CANCELLED: frozenset(),
}

ALLOCATION_MOVES: Final[Moves[AllocationStatus]] = {
    AllocationStatus.PENDING: frozenset(
        {AllocationStatus.PROCESSING, AllocationStatus.ON_HOLD, AllocationStatus.CANCELLED}
    ),
    AllocationStatus.ON_HOLD: frozenset({AllocationStatus.PENDING, AllocationStatus.CANCELLED}),
    # An early return arrives before the payout was ever reported paid.
    AllocationStatus.PROCESSING: frozenset(
        {AllocationStatus.COMPLETED, AllocationStatus.FAILED, AllocationStatus.RETURNED}
    ),
    AllocationStatus.COMPLETED: frozenset({AllocationStatus.RETURNED}),
    # Sent again, to another account or under a new attempt; the money is owed until it arrives, so never CANCELLED.
    AllocationStatus.FAILED: frozenset({AllocationStatus.PROCESSING}),
    AllocationStatus.RETURNED: frozenset({AllocationStatus.PROCESSING}),
    AllocationStatus.CANCELLED: frozenset(),
}

PAYOUT_MOVES: Final[Moves[PayoutStatus]] = {
    # An event may report the end before the answer that names the transaction.
    PayoutStatus.REQUESTED: frozenset(
        {PayoutStatus.CREATED, PayoutStatus.COMPLETED, PayoutStatus.FAILED, PayoutStatus.RETURNED}
    ),
    PayoutStatus.CREATED: frozenset({PayoutStatus.COMPLETED, PayoutStatus.FAILED, PayoutStatus.RETURNED}),
    # What the bank reports later about the same transaction counts.
    PayoutStatus.COMPLETED: frozenset({PayoutStatus.FAILED, PayoutStatus.RETURNED}),
    PayoutStatus.FAILED: frozenset({PayoutStatus.COMPLETED, PayoutStatus.RETURNED}),
    PayoutStatus.RETURNED: frozenset({PayoutStatus.COMPLETED, PayoutStatus.FAILED}),
}
