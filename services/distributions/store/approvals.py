"""What of this service waits for a second person."""

from __future__ import annotations

from datetime import datetime

from realco.distributions.v1 import events_pb2 as events

from services.chassis.approvals import records
from services.chassis.approvals.messages import has_precondition
from services.chassis.approvals.resources import ResourceApprovals
from services.chassis.approvals.writer import ApprovalWriter
from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Precondition, hash_content
from services.distributions.domain.offering import Offering

APPROVAL_WRITER = ApprovalWriter(events.ApprovalRequested, events.ApprovalUpdated)

# What a person asks for by the RPC of this name.
CLOSE_OFFERING = "CLOSE_OFFERING"
REFUND_OFFERING = "REFUND_OFFERING"
CANCEL_INVESTMENT = "CANCEL_INVESTMENT"
RESEND_REFUND = "RESEND_REFUND"
RESEND_PROCEEDS = "RESEND_PROCEEDS"
# Submitted distributions.
DISTRIBUTION_APPROVALS = ResourceApprovals(
    "APPROVE_DISTRIBUTION",
    APPROVAL_WRITER,
    "realco.distributions.v1.DistributionsService/ApproveDistribution",
)


async def cancel_closings(tx: Tx, offering_id: str, now: datetime) -> None:
    """The offering closes no more."""
    await APPROVAL_WRITER.cancel_undoing(tx, CLOSE_OFFERING, offering_id, now)


async def outdate_closings(tx: Tx, offering_id: str, now: datetime) -> None:
    """The offering is not what it was when somebody asked for its closing: they ask anew. Raises: TooManyStops."""
    await APPROVAL_WRITER.outdate(tx, CLOSE_OFFERING, offering_id, now)


async def read_shown_minor(tx: Tx, kind: str, resource_id: str) -> int:
    """The amount that two persons saw when they approved what is being done; 0 where no two did. Raises: NotSealed."""
    approved = await records.find_being_done(tx, kind, resource_id)
    return 0 if approved is None or approved.amount is None else approved.amount.amount_minor


async def is_being_done(tx: Tx, kind: str, resource_id: str, precondition: Precondition) -> bool:
    """Whether two persons approved what is being done, with exactly this precondition. Raises: NotSealed."""
    approved = await records.find_being_done(tx, kind, resource_id)
    return approved is not None and has_precondition(approved.content, precondition)


async def read_closing_hash(tx: Tx, offering: Offering) -> str:
    """The hash of what two persons decided when they closed it.

    Where a service ordered the closing, it is of nothing that was decided, and escrow refuses it.
    """
    offering_id = offering.offering_id
    decided = await records.find_decided_hash(tx, current_principal().org_id, CLOSE_OFFERING, offering_id)
    return decided or hash_content(f"{offering_id}:{offering.closing_attempt}")
