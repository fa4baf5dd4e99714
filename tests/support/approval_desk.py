"""A service of one thing that needs two persons, and who stands before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from realco.approvals.v1 import approvals_pb2 as pb
from realco.escrow.v1 import events_pb2, holds_pb2
from realco.type.v1 import approval_pb2

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.requests import RequestKind
from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.approvals.workflow import Approvals
from services.chassis.approvals.writer import ApprovalWriter
from services.chassis.calls.auth import acting_as, current_principal
from services.chassis.data.once import once
from services.chassis.data.operations import Operations
from services.chassis.values.approval import ApprovalDetails
from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.money import Money
from tests.support import chassis
from tests.support.persons import Persons

MAKER = chassis.ADMIN
CHECKER = dataclasses.replace(MAKER, subject="admin-2")
OTHER_MAKER = dataclasses.replace(MAKER, subject="admin-3")
EDITOR = dataclasses.replace(MAKER, subject="editor")
PAYEE = "pty_payee"
S = approval_pb2.Approval


class NotEnough(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "NOT_ENOUGH"


class TestClock:
    __test__ = False

    def __init__(self):
        self.moment = chassis.NOW

    def now(self):
        return self.moment


class Deed:
    """Captures a hold: one note for each that was really captured, and the names of those in whose name."""

    def __init__(self, database):
        self._database = database
        self.raises: DomainError | None = None
        self.describing_raises: DomainError | None = None
        self.fails_for: dict[str, Exception] = {}
        self.minor = 500
        self.makers = frozenset({EDITOR.person})
        self.done_as: list[str] = []
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []

    async def describe(self, request, now) -> ApprovalDetails:
        while self.meanwhile:
            await self.meanwhile.pop()()
        if self.describing_raises is not None:
            raise self.describing_raises
        return ApprovalDetails(
            f"Capture {request.hold_id}",
            request.escrow_account_id,
            request.escrow_account_id,
            amount=Money(self.minor, "USD"),
            makers=self.makers,
            beneficiary_party_ids=frozenset({PAYEE}),
            matter=(request.hold_id,),
        )

    async def execute(self, request) -> holds_pb2.Hold:
        if self.raises is not None:
            raise self.raises
        if request.hold_id in self.fails_for:
            raise self.fails_for[request.hold_id]

        async def capture(tx):
            await chassis.add_note(tx, f"captured {request.hold_id}")
            return holds_pb2.Hold(hold_id=request.hold_id)

        answer = await once(self._database, request, holds_pb2.Hold, capture)
        if not request.validate_only:
            self.done_as.append(current_principal().person)
        return answer


class Desk:
    """The service under test, and who stands before it."""

    def __init__(self, database):
        self.database = database
        self.clock = TestClock()
        self.deed = Deed(database)
        self.persons = Persons()
        operations = Operations(database, self.clock)
        kind = RequestKind(holds_pb2.CaptureHoldRequest, self.deed.execute, self.deed.describe)
        self.approvals = Approvals(
            operations, [kind], ApprovalWriter(events_pb2.ApprovalRequested, events_pb2.ApprovalUpdated)
        )
        self.service = ApprovalsServicer(operations, self.approvals, self.persons)
        self.jobs = {job.name: job for job in build_approval_jobs("escrow", operations, self.approvals)}

    async def ask(self, who=MAKER, key="key-1", hold_id="hold_1", **more) -> S:
        with acting_as(who):
            answer = await self.approvals.carry_out(
                holds_pb2.CaptureHoldRequest(escrow_account_id="esc_1", hold_id=hold_id, idempotency_key=key, **more),
                holds_pb2.CaptureHoldResponse,
            )
        return answer.approval

    async def grant(self, approval: S, who=CHECKER, key="grant-1", **changes) -> S:
        read = {"approval_id": approval.approval_id, "content_hash": approval.content_hash, "etag": approval.etag}
        asked = read | changes
        with acting_as(who):
            return await self.service.ApproveApproval(pb.ApproveApprovalRequest(idempotency_key=key, **asked), None)

    async def get(self, approval: S, who=CHECKER) -> S:
        with acting_as(who):
            return await self.service.GetApproval(pb.GetApprovalRequest(approval_id=approval.approval_id), None)

    async def list(self, who=CHECKER, **filters) -> list[str]:
        with acting_as(who):
            answer = await self.service.ListApprovals(pb.ListApprovalsRequest(**filters), None)
        return [approval.approval_id for approval in answer.approvals]

    async def notes(self) -> list[str]:
        return await chassis.note_ids(self.database)

    async def make_due(self) -> None:
        """What waits for a job is due now, by the database's clock."""
        async with self.database.begin_for_all() as tx:
            await tx.driver.execute("UPDATE approvals SET due_at = now() WHERE due_at IS NOT NULL")
