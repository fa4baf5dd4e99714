"""What needs two persons in compliance, and what the second one has to know."""

from __future__ import annotations

from realco.compliance.v1 import events_pb2 as events

from services.chassis.approvals.book import Approvals
from services.chassis.approvals.changes import ApprovalEvents
from services.chassis.data.operations import Operations


def build_approvals(operations: Operations) -> Approvals:
    """The approvals of compliance."""
    return Approvals(operations, [], ApprovalEvents(events.ApprovalRequested, events.ApprovalUpdated))
