"""What else was asked for about a resource: the same, or what does the same in other words, of which whoever decides is
told, as of whatever like it was rejected; or what goes by the version that somebody edits.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.chassis.approvals.records import WITHOUT_TEXTS, keep_readable
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_rows
from services.chassis.data.tables import approvals
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Approval, Status
from services.chassis.values.explanation import Explanation
from services.chassis.values.rejections import explain_rejections, find_told_since
from services.chassis.values.same_content import (
    explain_altered,
    explain_repetition,
    explain_same_effect,
)

_c = approvals.c


async def explain_others(
    source: Source, approval: Approval, now: datetime, *, waits_by_itself: bool
) -> list[Explanation]:
    """
    Args:
        waits_by_itself: It is a resource that waits, and no request.
    """
    names = ("kind", "resource_id", "content_hash", "approval_id")
    same, altered = await _read(source, _SAME_APPROVED, **{name: getattr(approval, name) for name in names})
    explanations = [explain_repetition(each, waits_by_itself=waits_by_itself) for each in same[:1]]
    if not waits_by_itself:
        alike, altered_too = await _read(source, _ALIKE, **_list_marks(approval))
        altered |= altered_too
        explanations += [explain_same_effect(each) for each in alike if each.status_at(now) is not Status.EXPIRED]
    matter = {"matter_hash": approval.matter_hash, "approval_id": approval.approval_id}
    rejected, _ = await _read(source, _REJECTED, **matter)
    living, touched = await _read(source, _LIVING, **matter, since=find_told_since(approval, now))
    _, ended = await _read(source, _ENDED, **matter)
    explanations += explain_rejections(approval, rejected, living, now)
    return [*explanations, *explain_altered(len(altered | touched | ended))]


async def is_version_awaited(tx: Tx, resource_id: str, etag: str, person: str, now: datetime) -> bool:
    """Whether somebody else asked for something about a resource in the version of this etag, and it waits."""
    about = is_mine(approvals), _c.resource_id == resource_id, _c.asked_etag == etag
    by_others = _c.expires_at > now, _c.created_by != person
    found = keep_readable(tx, await tx.execute(sa.select(*WITHOUT_TEXTS).where(*about, *by_others)))
    return any(each.status is Status.PENDING for each in found)


async def _read(source: Source, read: Read, **given: Any) -> tuple[list[Approval], set[str]]:
    """Those that this service wrote, and the ids of the others."""
    rows = await fetch_rows(source, read, **given)
    found = keep_readable(source, rows)
    return found, {row.approval_id for row in rows} - {each.approval_id for each in found}


def _list_marks(approval: Approval) -> dict[str, Any]:
    """By which another one about the resource does the same and moves as much, with another content."""
    return {
        "resource_id": approval.resource_id,
        "effect_hash": approval.effect_hash,
        "content_hash": approval.content_hash,
        "amount_minor": approval.amount.amount_minor if approval.amount else None,
        "currency": approval.amount.currency if approval.amount else None,
    }


_IS_SAME = (_c.kind == sa.bindparam("kind"), _c.content_hash == sa.bindparam("content_hash"))
_MOVES_AS_MUCH = (
    _c.amount_minor.is_not_distinct_from(sa.bindparam("amount_minor", type_=_c.amount_minor.type)),
    _c.currency.is_not_distinct_from(sa.bindparam("currency", type_=_c.currency.type)),
)

_APPROVED = (Status.APPROVED, Status.EXECUTED)
_ALIVE = (Status.PENDING, *_APPROVED)

# What else is about the same: of the same resource, or ordered anew as another one (ApprovalDetails.matter).
_SAME_MATTER = (
    is_mine(approvals),
    _c.matter_hash == sa.bindparam("matter_hash"),
    _c.approval_id != sa.bindparam("approval_id"),
)

# What was approved last of what else was asked for with the same content is told; others, if it was altered.
_SAME_MAX = 10
_SAME_APPROVED = Read(
    sa.select(*WITHOUT_TEXTS)
    .where(
        is_mine(approvals),
        _c.resource_id == sa.bindparam("resource_id"),
        *_IS_SAME,
        _c.approval_id != sa.bindparam("approval_id"),
        _c.status.in_(_APPROVED),
    )
    .order_by(_c.decided_at.desc(), _c.approval_id.desc())
    .limit(_SAME_MAX)
)

# What else was asked for about the resource, has another content, does the same and moves as much: first what was
# approved, so that nobody hides it under what they have wait, and of each the newest.
_ALIKE_MAX = 20
_ALIKE = Read(
    sa.select(*WITHOUT_TEXTS)
    .where(
        is_mine(approvals),
        _c.resource_id == sa.bindparam("resource_id"),
        _c.effect_hash == sa.bindparam("effect_hash"),
        _c.content_hash != sa.bindparam("content_hash"),
        *_MOVES_AS_MUCH,
        _c.status.in_(_ALIVE),
    )
    .order_by(_c.status == Status.PENDING, _c.created_at.desc(), _c.approval_id.desc())
    .limit(_ALIKE_MAX)
)

# A no is said by a second person: whoever asks cannot bury it under others that they take back.
_REJECTED_MAX = 100
_REJECTED = Read(
    sa.select(*WITHOUT_TEXTS)
    .where(*_SAME_MATTER, _c.status == Status.REJECTED)
    .order_by(_c.decided_at.desc(), _c.approval_id.desc())
    .limit(_REJECTED_MAX)
)

# By what was approved since a no counts no longer; where it is more than that, the no is told all the same.
_LIVING_MAX = 100
_LIVING = Read(
    sa.select(*WITHOUT_TEXTS)
    .where(*_SAME_MATTER, _c.status.in_(_ALIVE), _c.created_at > sa.bindparam("since", type_=_c.created_at.type))
    .order_by(_c.created_at.desc(), _c.approval_id.desc())
    .limit(_LIVING_MAX)
)

# What is over, by what never changes of it: of what is carried out just now a login of the database may write that it
# failed. What it says is told to nobody.
_ENDED_MAX = 300
_ENDED = Read(
    sa.select(*WITHOUT_TEXTS)
    .where(*_SAME_MATTER, _c.status.not_in(_ALIVE))
    .order_by(_c.created_at.desc(), _c.approval_id.desc())
    .limit(_ENDED_MAX)
)
