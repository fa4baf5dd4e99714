"""ApprovalsService over gRPC, for the approvals of one service. Compliance's asks the other services, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc.aio import ServicerContext
from realco.approvals.v1 import approvals_pb2 as pb
from realco.approvals.v1 import approvals_pb2_grpc as pb_grpc
from realco.type.v1 import approval_pb2

from services.chassis.approvals import messages, records
from services.chassis.approvals.facts import ask_facts, explain_ended_session
from services.chassis.approvals.lists import having
from services.chassis.approvals.notary import write_heard
from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.auth import current_principal
from services.chassis.calls.parties import Parties
from services.chassis.data.once import replace_answer
from services.chassis.data.operations import Operations
from services.chassis.data.paging import read_list
from services.chassis.data.restores import is_restore_seen
from services.chassis.data.tables import approvals as table
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Approval, ApprovalFacts, ApprovalNotFound, Status
from services.chassis.values.errors import InvalidField
from services.chassis.values.explanation import explain_summary
from services.chassis.values.text import normalize_person, read_as_line

M = TypeVar("M", bound=Message)

APPROVALS_SERVICE: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["ApprovalsService"]


class ApprovalsServicer(pb_grpc.ApprovalsServiceServicer):
    """
    Args:
        parties: Tells for whom a person acts at this moment: no beneficiary decides.
    """

    def __init__(self, operations: Operations, approvals: Approvals, parties: Parties) -> None:
        self._operations = operations
        self._approvals = approvals
        self._permissions = approvals.permissions
        self._parties = parties

    async def GetApproval(self, request: pb.GetApprovalRequest, context: ServicerContext) -> approval_pb2.Approval:
        now = self._operations.clock.now()
        found = await records.fetch_approval(self._operations.database.reader, request.approval_id)
        if found is None or not self._permissions.may_read(found[0].kind):
            raise ApprovalNotFound()
        approval, version = found
        shown = await self._show(approval, now)
        shown.aggregate_version = version
        return shown

    async def ListApprovals(
        self, request: pb.ListApprovalsRequest, context: ServicerContext
    ) -> pb.ListApprovalsResponse:
        return await self._operations.read(request, self._list)

    async def ApproveApproval(
        self, request: pb.ApproveApprovalRequest, context: ServicerContext
    ) -> approval_pb2.Approval:
        approved: list[Approval] = []

        async def decide(
            tx: Tx, request: pb.ApproveApprovalRequest, facts: ApprovalFacts, now: datetime
        ) -> approval_pb2.Approval:
            approval = await self._approvals.approve(tx, request, facts, now)
            approved[:] = [approval]
            return messages.to_approval(approval, None, self._permissions.list_actions(approval, now))

        async def ask(request: pb.ApproveApprovalRequest) -> ApprovalFacts:
            now = self._operations.clock.now()
            read = await self._find(request.approval_id)
            if read is None:
                return await ask_facts(self._parties, None)
            facts = await ask_facts(self._parties, read, *await self._approvals.ask_drift(read, now))
            if not request.validate_only:
                await self._approvals.witness(
                    read,
                    lambda: self._operations.rehearse(
                        request, approval_pb2.Approval, lambda tx, request, now: decide(tx, request, facts, now)
                    ),
                )
            return facts

        answer = await self._operations.write_on_facts(request, approval_pb2.Approval, ask, decide)
        if request.validate_only and approved:
            if approved[0].kind in self._approvals.requests.kinds:
                await self._approvals.requests.rehearse(approved[0])
            _show_undone(answer)
        if request.validate_only or not approved or approved[0].status is not Status.APPROVED:
            return answer
        done = await self._approvals.executions.execute(approved[0])
        answer = await self._show(done, self._operations.clock.now())
        async with self._operations.database.begin() as tx:
            await replace_answer(tx, request, lambda: answer)
        return answer

    async def RejectApproval(
        self, request: pb.RejectApprovalRequest, context: ServicerContext
    ) -> approval_pb2.Approval:
        return await self._end(request, self._approvals.reject)

    async def CancelApproval(
        self, request: pb.CancelApprovalRequest, context: ServicerContext
    ) -> approval_pb2.Approval:
        return await self._end(request, self._approvals.cancel)

    async def CommentApproval(
        self, request: pb.CommentApprovalRequest, context: ServicerContext
    ) -> approval_pb2.Approval:
        write = self._shown(self._approvals.comment)
        return await self._operations.write(request, approval_pb2.Approval, write)

    async def _end(
        self,
        request: pb.RejectApprovalRequest | pb.CancelApprovalRequest,
        command: Callable[[Tx, Any, datetime], Awaitable[Approval]],
    ) -> approval_pb2.Approval:
        """Ends it without its deed. The notary, where it heard of it, hears that first."""

        end = self._shown(command)

        async def hear(request: Any) -> bool:
            read = await self._find(request.approval_id)
            if read is None or request.validate_only:
                return False
            rehearse = partial(self._operations.rehearse, request, approval_pb2.Approval, end)
            return await self._approvals.witness_end(read, rehearse)

        return await write_heard(self._operations, request, approval_pb2.Approval, hear, end)

    async def _find(self, approval_id: str) -> Approval | None:
        async with self._operations.database.begin() as tx:
            return await self._approvals.find(tx, approval_id)

    def _shown(
        self, command: Callable[[Tx, M, datetime], Awaitable[Approval]]
    ) -> Callable[[Tx, M, datetime], Awaitable[approval_pb2.Approval]]:
        """What the command made of it, with what the caller may still do."""

        async def write(tx: Tx, request: M, now: datetime) -> approval_pb2.Approval:
            approval = await command(tx, request, now)
            return messages.to_approval(approval, None, self._permissions.list_actions(approval, now))

        return write

    async def _list(self, tx: Tx, request: pb.ListApprovalsRequest, now: datetime) -> pb.ListApprovalsResponse:
        has_amount = request.HasField("amount_minor_from")
        if has_amount and len(request.currency_code) != 1:
            fault = {"currency_code": "is required, once, with amount_minor_from"}
            raise InvalidField("An amount is of a currency: amount_minor_from needs one.", fields=fault)
        principal, c = current_principal(), table.c
        conditions = having(
            statuses=[approval_pb2.Approval.Status.Name(status) for status in request.status],
            kinds=request.kind,
            ids=request.ids,
            resource_ids=request.resource_id,
            scope_ids=request.scope_id,
            created_by=[normalize_person(person) for person in request.created_by],
            currencies=request.currency_code,
            amount_minor_from=request.amount_minor_from if has_amount else None,
            mine=request.mine if request.HasField("mine") else None,
            decidable=request.decidable if request.HasField("decidable") else None,
            decidable_kinds=self._permissions.list_decidable_kinds(),
            person=principal.person,
            now=now,
        )
        is_readable = c.kind.in_(self._permissions.list_readable_kinds())
        query = sa.select(*records.WITHOUT_TEXTS).where(c.org_id == principal.org_id, is_readable, *conditions)
        cut = await read_list(tx, request, query, c.created_at, c.approval_id)
        return pb.ListApprovalsResponse(
            approvals=[messages.to_listed_approval(each) for each in records.keep_readable(tx, cut.rows)],
            next_page_token=cut.next_page_token,
            previous_page_token=cut.previous_page_token,
        )

    async def _show(self, approval: Approval, now: datetime) -> approval_pb2.Approval:
        details, actions = await self._approvals.describe(approval, now), self._permissions.list_actions(approval, now)
        if not approval.is_open_at(now):
            return messages.to_approval(approval, details, actions)
        ended, reader = await explain_ended_session(self._parties, approval), self._operations.database.reader
        others = await self._approvals.explain_others(reader, approval, now)
        if ended is not None or not await is_restore_seen(reader):
            actions = [each for each in actions if each != "approve"]
        renamed = None if details is None else explain_summary(approval.summary, read_as_line(details.summary))
        return messages.to_approval(approval, details, actions, filter(None, (renamed, ended, *others)))


def _show_undone(answer: approval_pb2.Approval) -> None:
    """A yes that was only validated has done nothing, also to what goes on at once, by the yes itself."""
    if answer.status == approval_pb2.Approval.EXECUTED:
        answer.status = approval_pb2.Approval.APPROVED
        answer.ClearField("result_id")
        answer.ClearField("result")
