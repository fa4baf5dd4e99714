"""What time and crashes leave to do about approvals."""

from __future__ import annotations

from collections import defaultdict

from services.chassis.approvals import records
from services.chassis.approvals.workflow import EXECUTION_LEASE_MS, Approvals
from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.operations import Operations
from services.chassis.data.seals import NotSealed
from services.chassis.process.jobs import Job
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError

_RESUMED_MAX = 10
_EXPIRED_MAX = 100


def build_approval_jobs(name: str, operations: Operations, approvals: Approvals) -> list[Job]:
    """The jobs of a service that has approvals.

    Args:
        name: The service.
    """

    async def resume() -> int:
        """Does what was approved, where the process that was to do it died or a service it needs was away."""
        async with operations.database.begin_for_all() as tx:
            taken = await records.take_approved(tx, EXECUTION_LEASE_MS, _RESUMED_MAX)
        for approval in taken:
            try:
                await approvals.execute(approval)
            except DomainError as refusal:
                log.warning("approval_waits", approval_id=approval.approval_id, reason=refusal.reason)
                with acting_as(service_principal(name, approval.org_id)):
                    async with operations.database.begin() as tx:
                        await records.postpone_approved(tx, approval)
        return len(taken)

    async def expire() -> int:
        """Writes down, and tells, what has expired by itself."""
        now = operations.clock.now()
        async with operations.database.begin_for_all() as tx:
            found = await tx.execute(records.selecting_expired(now, _EXPIRED_MAX))
            due: dict[str, list[str]] = defaultdict(list)
            for row in found:
                due[row.org_id].append(row.approval_id)
        for org_id, approval_ids in due.items():
            with acting_as(service_principal(name, org_id)):
                for approval_id in approval_ids:
                    try:
                        async with operations.database.begin() as tx:
                            await approvals.expire(tx, approval_id, now)
                    except NotSealed:
                        continue  # it is in the log; none of the others waits for it
        return sum(map(len, due.values()))

    return [Job("resume_approvals", resume, 5.0), Job("expire_approvals", expire, 0.5)]
