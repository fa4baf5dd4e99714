"""What time and crashes leave to do about approvals."""

from __future__ import annotations

from datetime import datetime

from services.chassis.approvals import records
from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database_errors import is_away
from services.chassis.data.due import do_due
from services.chassis.data.operations import Operations
from services.chassis.data.seals import NotSealed
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.process.jobs import Job
from services.chassis.process.telemetry import log
from services.chassis.values.approval import Approval
from services.chassis.values.errors import DomainError

# Looked at by `watch_overdue`.
APPROVAL_WORK = (records.EXPIRED, records.UNDONE)


def build_approval_jobs(name: str, operations: Operations, approvals: Approvals) -> list[Job]:
    """The jobs of a service that has approvals.

    Args:
        name: The service.
    """

    async def resume() -> int:
        """Does what was approved, where the process that was to do it died or a service it needs was away."""
        taken = await records.take_approved(operations.database)
        for approval in taken:
            try:
                await approvals.executions.execute(approval)
            except Exception as error:  # one that fails must not keep the others from their turn
                if is_away(error):
                    raise
                _say_waits(approval, error)
                with acting_as(service_principal(name, approval.org_id)):
                    async with operations.database.begin() as tx:
                        await records.postpone_approved(tx, approval)
        return len(taken)

    async def expire() -> int:
        """Writes down, and tells, what has expired by itself."""
        return await do_due(operations.database, name, records.EXPIRED, operations.clock.now(), end)

    async def end(tx: Tx, row: Row, now: datetime) -> None:
        await approvals.expire(tx, row.approval_id, now)

    return [
        Job("resume_approvals", resume, work=records.LEFT_BEHIND.first_due),
        Job("expire_approvals", expire, work=records.EXPIRED.first_due),
    ]


def _say_waits(approval: Approval, error: Exception) -> None:
    reason = error.reason if isinstance(error, DomainError) else type(error).__name__
    is_known = isinstance(error, DomainError | NotSealed)
    log.warning("approval_waits", approval_id=approval.approval_id, reason=reason, exc_info=None if is_known else error)
