"""What was asked for by a request, as it would be done now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from services.chassis.approvals.messages import read_content
from services.chassis.approvals.requests import RequestKind, maker_of, name_kind_of
from services.chassis.calls.auth import acting_as
from services.chassis.data.operations import Operations
from services.chassis.values.approval import Approval, ApprovalDetails, hash_content
from services.chassis.values.errors import DomainError
from services.chassis.values.etags import EtagMismatch
from services.chassis.values.explanation import explain_outdated
from services.chassis.values.refusals import ContentOutdated
from services.chassis.values.same_content import list_differing


class AskedRequests:
    """
    Args:
        kinds: The calls that a person only asks for.
    """

    def __init__(self, operations: Operations, kinds: Sequence[RequestKind[Any]]) -> None:
        self._operations = operations
        self.kinds = {kind.name: kind for kind in kinds}

    def kind_of(self, request: Message) -> RequestKind[Any]:
        """What this request asks for."""
        return self.kinds[name_kind_of(type(request))]

    def read(self, approval: Approval) -> Any:
        """The request, to be done under the key of its approval. Raises Unavailable: a newer release asked for it."""
        return read_content(approval.content, self.kinds[approval.kind].request_type, approval.approval_id)

    async def describe(self, approval: Approval, now: datetime) -> ApprovalDetails:
        """What a person who decides has to know now, and first whether it would do something else by now.

        Raises DomainError: why that cannot be said.
        """
        request = self.read(approval)
        details = await self.kinds[approval.kind].describe(request, now)
        differing = self._list_differing(approval, request, details)
        outdated = (explain_outdated(differing),) if differing else ()
        return replace(details, explanations=(*outdated, *details.explanations))

    def _list_differing(self, approval: Approval, request: Message, details: ApprovalDetails) -> list[str]:
        """In what it would do something else now than when it was asked for."""
        as_asked = replace(details, beneficiary_party_ids=approval.beneficiary_party_ids)
        content = self.kinds[approval.kind].write_content(request, as_asked)
        return list_differing(approval.content, content) if hash_content(content) != approval.content_hash else []

    async def compare(self, approval: Approval, now: datetime) -> ApprovalDetails:
        """What it would do now. Raises ContentOutdated, or why that cannot be said."""
        request = self.read(approval)
        details = await self.kinds[approval.kind].describe(request, now)
        if differing := self._list_differing(approval, request, details):
            raise ContentOutdated(explain_outdated(differing).statement)
        return details

    async def check_version(self, approval: Approval) -> None:
        """Whether what the request was about has changed, where it names the version it was about.

        Raises: ContentOutdated.
        """
        if not getattr(self.read(approval), "etag", ""):
            return
        try:
            await self.rehearse(approval)
        except EtagMismatch:
            message = "What it is about has changed since it was asked for: reject or cancel it, and ask again."
            raise ContentOutdated(message) from None
        except DomainError:
            return  # what refuses it today may not at the deed, which asks again

    async def rehearse(self, approval: Approval) -> None:
        """Whether it could be done now. Raises DomainError as the deed would."""
        with acting_as(maker_of(approval)):
            await self.kinds[approval.kind].rehearse(self.read(approval))
