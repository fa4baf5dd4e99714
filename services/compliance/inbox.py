"""The inbox of every service: compliance asks each of them, with the own token of the person who looks or decides."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from grpc import aio
from grpc.aio import ServicerContext
from realco.approvals.v1 import approvals_pb2 as pb
from realco.approvals.v1 import approvals_pb2_grpc as pb_grpc
from realco.type.v1 import approval_pb2

from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.peers import find, hand_on, pass_on
from services.chassis.calls.wire import from_timestamp
from services.chassis.data.paging import Page, is_descending
from services.chassis.values.approval import ApprovalNotFound
from services.chassis.values.errors import AnswerWithheld, Unavailable


class Inbox(pb_grpc.ApprovalsServiceServicer):
    """What every service has, as one list; a decision goes to the service that keeps the approval.

    Args:
        own: Compliance's own approvals.
        channels: The other services that keep approvals.
    """

    def __init__(self, own: ApprovalsServicer, channels: Sequence[aio.Channel]) -> None:
        self._own = own
        self._others: list[Any] = [pb_grpc.ApprovalsServiceStub(channel) for channel in channels]

    async def GetApproval(self, request: pb.GetApprovalRequest, context: ServicerContext) -> approval_pb2.Approval:
        _, approval = await self._locate(request.approval_id, context)
        return approval

    async def ListApprovals(
        self, request: pb.ListApprovalsRequest, context: ServicerContext
    ) -> pb.ListApprovalsResponse:
        """Every service tells its list up to a key: the page of all ends with the first of these keys at the latest,
        since behind it a service may have more. Of its page it may have left out what it did not write, or all."""
        page = Page.of(request)
        answers: Sequence[pb.ListApprovalsResponse] = await asyncio.gather(
            self._own.ListApprovals(request, context),
            *(pass_on(other.ListApprovals, request) for other in self._others),
        )
        upwards = is_descending(request) is page.backward
        told = sorted((each for answer in answers for each in answer.approvals), key=_key, reverse=not upwards)
        tokens = [answer.previous_page_token if page.backward else answer.next_page_token for answer in answers]
        ends = sorted((page.key_of(token) for token in tokens if token), reverse=not upwards)
        bound = ends[0] if ends else None
        found = [each for each in told if bound is None or _key(each) == bound or (_key(each) < bound) is upwards]
        cut = page.cut_within(found, _key, bound)
        return pb.ListApprovalsResponse(
            approvals=cut.rows, next_page_token=cut.next_page_token, previous_page_token=cut.previous_page_token
        )

    async def ApproveApproval(
        self, request: pb.ApproveApprovalRequest, context: ServicerContext
    ) -> approval_pb2.Approval:
        return await self._pass_on("ApproveApproval", request, context)

    async def RejectApproval(
        self, request: pb.RejectApprovalRequest, context: ServicerContext
    ) -> approval_pb2.Approval:
        return await self._pass_on("RejectApproval", request, context)

    async def CancelApproval(
        self, request: pb.CancelApprovalRequest, context: ServicerContext
    ) -> approval_pb2.Approval:
        return await self._pass_on("CancelApproval", request, context)

    async def CommentApproval(
        self, request: pb.CommentApprovalRequest, context: ServicerContext
    ) -> approval_pb2.Approval:
        return await self._pass_on("CommentApproval", request, context)

    async def _pass_on(self, rpc: str, request: Any, context: ServicerContext) -> approval_pb2.Approval:
        owner, _ = await self._locate(request.approval_id, context)
        if owner is None:
            return await getattr(self._own, rpc)(request, context)
        answer: approval_pb2.Approval = await hand_on(getattr(owner, rpc), request)
        return answer

    async def _locate(self, approval_id: str, context: ServicerContext) -> tuple[Any, approval_pb2.Approval]:
        """The stub of the service that keeps the approval, None for this one, and the approval.

        Raises:
            ApprovalNotFound: no service has it.
            Unavailable: none that answered has it.
        """
        request = pb.GetApprovalRequest(approval_id=approval_id)
        try:
            return None, await self._own.GetApproval(request, context)
        except ApprovalNotFound:
            pass
        answers = await asyncio.gather(
            *(find(other.GetApproval, request) for other in self._others), return_exceptions=True
        )
        for other, answer in zip(self._others, answers, strict=True):
            if isinstance(answer, Message):
                return other, answer  # type: ignore[return-value]
        for answer in answers:
            if isinstance(answer, AnswerWithheld) or not isinstance(answer, Unavailable | None):
                raise answer
        if any(answer is not None for answer in answers):
            raise Unavailable("A service that may have it cannot be reached.")
        raise ApprovalNotFound()


def _key(approval: approval_pb2.Approval) -> tuple[datetime, str]:
    return from_timestamp(approval.create_time), approval.approval_id
