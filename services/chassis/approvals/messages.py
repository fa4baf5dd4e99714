"""From approvals to what callers and subscribers read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal

from google.protobuf.message import Message
from realco.type.v1 import approval_pb2 as pb
from realco.type.v1 import explanation_pb2

from services.chassis.calls.wire import (
    from_explanation,
    to_amount,
    to_explanation,
    to_money,
    to_optional_failure,
    to_optional_timestamp,
    to_timestamp,
)
from services.chassis.spelling.json_reader import IS_REQUIRED, Found, reader_of
from services.chassis.spelling.json_writer import writer_of
from services.chassis.values.approval import (
    Approval,
    ApprovalDetails,
    Change,
    Effect,
    Precondition,
    Preview,
    write_content,
)
from services.chassis.values.errors import Unavailable
from services.chassis.values.etags import etag_of
from services.chassis.values.explanation import Explanation
from services.chassis.values.faults import EnoughFaults
from services.chassis.values.money import Money

# They say how something is asked for, not what.
_KEY = "idempotencyKey"
_NO_CONTENT = (_KEY, "validateOnly")


def to_content(
    kind: str,
    org_id: str,
    asked: Message | dict[str, Any],
    details: ApprovalDetails,
    *,
    name: Literal["request", "resource"],
) -> str:
    """What is decided on, as canonical text: what is asked for or waits, and what a yes does as things are.

    If it would do something else later, this text would be another one: then what was read is not what would be done.

    Args:
        asked: The request; or, of a resource that waits by itself, what of it is decided on, as a message or in JSON.
        name: Which of the two.
    """
    body = asked if isinstance(asked, dict) else writer_of(asked.DESCRIPTOR, sparse=name == "resource")(asked)
    for field in _NO_CONTENT:
        body.pop(field, None)
    return write_content(
        {
            "kind": kind,
            "orgId": org_id,
            name: body,
            "amount": None if details.amount is None else _spell(to_money(details.amount)),
            "changes": _spell_changes(details),
            "preconditions": _spell_preconditions(details),
            "beneficiaryPartyIds": sorted(details.beneficiary_party_ids),
        }
    )


def spell_bound(details: ApprovalDetails) -> list[dict[str, Any]]:
    """The changes and preconditions that a content is bound to, in JSON."""
    return [*_spell_changes(details), *_spell_preconditions(details)]


def _spell_changes(details: ApprovalDetails) -> list[dict[str, Any]]:
    return [_spell(_to_change(change)) for change in details.changes]


def _spell_preconditions(details: ApprovalDetails) -> list[dict[str, Any]]:
    return [_spell(_to_precondition(each)) for each in details.preconditions]


def has_change(content: str, change: Change) -> bool:
    """Whether it is one of those that a content was bound to."""
    return _spell(_to_change(change)) in json.loads(content)["changes"]


def has_precondition(content: str, precondition: Precondition) -> bool:
    """Whether a content was bound to it."""
    return _spell(_to_precondition(precondition)) in json.loads(content)["preconditions"]


def to_result(answer: Message) -> str:
    """What an RPC answered about what was done, as canonical text."""
    return write_content(_spell(answer))


def read_content(content: str, request_type: type[Message], idempotency_key: str) -> Any:
    """The request that was decided on, to be done under a key of its own.

    Raises:
        Unavailable: it was asked for by a newer release than this process: one of those reads it.
    """
    body, request = json.loads(content)["request"], request_type()
    found = Found()
    if any(field.json_name == _KEY for field in request_type.DESCRIPTOR.fields):
        body[_KEY] = idempotency_key
    with suppress(EnoughFaults):
        reader_of(request_type.DESCRIPTOR)(request, body, (), found)
    if any(fault != IS_REQUIRED for _, fault in found):  # that it was whole was seen when it was asked for
        raise Unavailable("It was asked for by a newer release of this service, which is being started.")
    return request


def _spell(message: Message) -> dict[str, Any]:
    """As REST's answers have it."""
    return writer_of(message.DESCRIPTOR)(message)


def to_approval(
    approval: Approval,
    details: ApprovalDetails | None = None,
    allowed_actions: Sequence[str] = (),
    explanations: Iterable[Explanation] = (),
) -> pb.Approval:
    """As a caller reads it.

    Args:
        details: What stands for and against it now, where that is asked for.
        explanations: What speaks against it, whatever its kind; what its kind says is among the details.
    """
    answer = to_listed_approval(approval)
    answer.MergeFrom(pb.Approval(content=approval.content, result=approval.result))
    answer.beneficiary_party_ids.extend(sorted(approval.beneficiary_party_ids))
    answer.comments.extend(
        pb.Approval.Comment(created_by=each.created_by, text=each.text, create_time=to_timestamp(each.created_at))
        for each in approval.comments
    )
    answer.explanations.extend(map(to_explanation, explanations))
    if details is not None:
        answer.changes.extend(map(_to_change, details.changes))
        answer.preconditions.extend(map(_to_precondition, details.preconditions))
        answer.explanations.extend(to_explanation(each) for each in details.explanations)
        answer.effects.extend(map(to_effect, details.effects))
    answer.allowed_actions.extend(allowed_actions)
    return answer


def to_effect(effect: Effect) -> pb.Approval.Effect:
    return pb.Approval.Effect(
        ledger_account=pb.Approval.Effect.LedgerAccount(kind=effect.kind, party_id=effect.party_id),
        before=to_money(effect.before),
        after=to_money(effect.after),
    )


def read_preview(effects: Iterable[pb.Approval.Effect], explanations: Iterable[explanation_pb2.Explanation]) -> Preview:
    """What the book answers about what would be done to it."""
    return Preview(tuple(map(_from_effect, effects)), tuple(map(from_explanation, explanations)))


def _from_effect(message: pb.Approval.Effect) -> Effect:
    account = message.ledger_account
    party_id = account.party_id if account.HasField("party_id") else None
    return Effect(account.kind, party_id, Money.from_proto(message.before), Money.from_proto(message.after))


def _to_change(change: Change) -> pb.Approval.Change:
    return pb.Approval.Change(
        field=change.field,
        before=None if change.before is None else str(change.before),
        after=None if change.after is None else str(change.after),
        before_amount=to_amount(change.before),
        after_amount=to_amount(change.after),
    )


def _to_precondition(precondition: Precondition) -> pb.Approval.Precondition:
    return pb.Approval.Precondition(field=precondition.field, value=precondition.value)


def to_listed_approval(approval: Approval) -> pb.Approval:
    """As a list has it: without its content and what people wrote beside it, of which there may be much."""
    return pb.Approval(
        approval_id=approval.approval_id,
        kind=approval.kind,
        summary=approval.summary,
        status=approval.status.value,
        resource_id=approval.resource_id,
        scope_id=approval.scope_id,
        amount=to_money(approval.amount) if approval.amount else None,
        content_hash=approval.content_hash,
        makers=sorted(approval.makers),
        created_by=approval.created_by,
        approvers_needed=approval.approvers_needed,
        approvers=[
            pb.Approval.Approver(approved_by=each.approved_by, approve_time=to_timestamp(each.approved_at))
            for each in approval.approvers
        ],
        decided_by=approval.decided_by,
        note=approval.note,
        create_time=to_timestamp(approval.created_at),
        expire_time=to_optional_timestamp(approval.expires_at),
        decide_time=to_optional_timestamp(approval.decided_at),
        update_time=to_timestamp(approval.updated_at),
        result_id=approval.result_id,
        failure=to_optional_failure(approval.failure),
        etag=etag_of(approval.approval_id, approval.version),
    )
