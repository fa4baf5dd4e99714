"""What writes the approvals of this service."""

from __future__ import annotations

from realco.transactions.v1 import events_pb2 as events

from services.chassis.approvals.writer import ApprovalWriter

UNBLOCK_BANK_ACCOUNT = "UNBLOCK_BANK_ACCOUNT"
APPROVAL_WRITER = ApprovalWriter(events.ApprovalRequested, events.ApprovalUpdated)
