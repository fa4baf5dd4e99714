"""What a person's call only asks for: a request, what does it, and what the person who decides has to know.

The answer of such an RPC is a oneof of what was done and the approval that waits: its descriptor says which is which.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from realco.type.v1 import approval_pb2

from services.chassis.approvals.messages import spell_bound, to_content
from services.chassis.calls.access import find_rpc
from services.chassis.calls.approval_kinds import name_kind
from services.chassis.calls.auth import Principal, current_principal
from services.chassis.data.operations import Operations, build_rehearsal
from services.chassis.data.transaction import Tx
from services.chassis.spelling.json_writer import writer_of
from services.chassis.values.approval import SUBJECT, Approval, ApprovalDetails
from services.chassis.values.content import Content, build_request_content, drop_words

Request = TypeVar("Request", bound=Message)
Facts = TypeVar("Facts")
Done = TypeVar("Done", bound=Message)
Execute = Callable[[Request], Awaitable[Message]]


def find_effect(request: Message) -> Any:
    """What a request does, in JSON: the same for one that says it in other words."""
    return [request.DESCRIPTOR.name, drop_words(writer_of(request.DESCRIPTOR)(request))]


@dataclass(frozen=True)
class RequestKind(Generic[Request]):
    """Something that needs two persons.

    Args:
        request_type: The request that asks for it.
        execute: Does it, in transactions of its own, once for the request's idempotency key; only rehearses it where
            the request says `validate_only`. It answers what was done, or the RPC's answer about that.
        describe: What a person who decides has to know about it now. Asked again whenever somebody looks.
        find_effect: What it does; requests of two kinds can do the same.
    """

    request_type: type[Request]
    execute: Execute[Request]
    describe: Callable[[Request, datetime], Awaitable[ApprovalDetails]]
    find_effect: Callable[[Request], Any] = find_effect

    @property
    def name(self) -> str:
        return name_kind_of(self.request_type)

    @property
    def answer_type(self) -> type[Message]:
        return find_answer_type(self.request_type)

    async def rehearse(self, request: Request) -> Message:
        """What would be done now. Raises DomainError as the deed would."""
        return await self.execute(build_rehearsal(request))

    def write_content(self, request: Request, details: ApprovalDetails) -> str:
        """The text that is decided on."""
        return to_content(self.name, current_principal().org_id, request, details, name="request")

    def build_content(self, request: Request, details: ApprovalDetails) -> Content:
        """The same, with what it is compared by later."""
        effect = [self.find_effect(request), spell_bound(details)]
        return build_request_content(self.write_content(request, details), effect, getattr(request, "etag", "") or None)


def by_command(
    operations: Operations, command: Callable[[Tx, Request, datetime], Awaitable[Message]]
) -> Execute[Request]:
    """What one command does, in one transaction."""

    async def execute(request: Request) -> Message:
        answer_type = find_answer_type(type(request))

        async def run(tx: Tx, request: Request, now: datetime) -> Message:
            return build_answer(answer_type, await command(tx, request, now))

        return await operations.write(request, answer_type, run)

    return execute


def by_asking(
    operations: Operations,
    done_type: type[Done],
    ask: Callable[[Any], Awaitable[Facts]],
    command: Callable[[Tx, Any, Facts, datetime], Awaitable[Done]],
) -> Execute[Any]:
    """What one command does, in one transaction, on what other services say just before it."""

    async def execute(request: Message) -> Done:
        return await operations.write_on_facts(request, done_type, ask, command)

    return execute


def name_kind_of(request_type: type[Message]) -> str:
    """What a person asks for by such a request."""
    return name_kind(request_type.DESCRIPTOR.name)


def find_answer_type(request_type: type[Message]) -> type[Message]:
    """What the RPC answers that takes this request."""
    rpc = find_rpc(request_type).replace("/", ".")
    return GetMessageClass(descriptor_pool.Default().FindMethodByName(rpc).output_type)


def build_answer(answer_type: type[Message], done: Message) -> Message:
    """The answer that this was done; what is the RPC's answer already stays as it is."""
    if isinstance(done, answer_type):
        return done
    return answer_type(**{_find_done(answer_type): done})


def find_result_id(answer: Message) -> str | None:
    """The id of what was made or changed: a Hold's `hold_id`. None where it has none of its own, as a batch."""
    done: Any = getattr(answer, _find_done(type(answer)))
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", done.DESCRIPTOR.name).lower() + "_id"
    return getattr(done, name, "") or None


def _find_done(answer_type: type[Message]) -> str:
    """The one field of the answer beside the approval's."""
    approval = approval_pb2.Approval.DESCRIPTOR
    [done] = [field.name for field in answer_type.DESCRIPTOR.fields if field.message_type is not approval]
    return done


def maker_of(approval: Approval) -> Principal:
    """In whose name it is done. No token has this subject, and no other approval: nobody else uses the deed's keys."""
    return Principal(
        f"{SUBJECT}/{approval.approval_id}",
        approval.created_role,
        approval.org_id,
        on_behalf_of=approval.created_by,
        asked_in=approval.session,
        approval_id=approval.approval_id,
        makers_and_checkers=approval.makers_and_checkers,
    )
