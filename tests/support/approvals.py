"""An approval that waits for two persons."""

from __future__ import annotations

from datetime import UTC, datetime

from services.chassis.values.approval import VALIDITY, Approval, Status
from services.chassis.values.money import Money
from services.chassis.values.session import NO_SESSION

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WAITING = Approval(
    org_id="org-a",
    approval_id="apr_1",
    version=1,
    kind="CLOSE_OFFERING",
    summary="Close it",
    status=Status.PENDING,
    resource_id="off_1",
    scope_id=None,
    amount=Money(500, "USD"),
    content="{}",
    content_hash="0" * 64,
    makers=frozenset({"ann"}),
    beneficiary_party_ids=frozenset({"pty_payee"}),
    created_by="ann",
    created_role="admin",
    session=NO_SESSION,
    created_at=NOW,
    expires_at=NOW + VALIDITY,
    updated_at=NOW,
    approvers_needed=2,
)
