"""Approvals as rows: each service keeps those of its own area, beside what they are about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from services.chassis.calls.auth import current_principal
from services.chassis.data.database import Database
from services.chassis.data.due import Due
from services.chassis.data.leases import build_taking, postpone, take_sealed
from services.chassis.data.locks import lock_name
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Reader, Source, fetch_row, fetch_rows
from services.chassis.data.seals import check_row, keep_sealed, list_digested, seal_of
from services.chassis.data.tables import approvals
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import with_version
from services.chassis.values.approval import Approval, Approver, Comment, Status
from services.chassis.values.failure import read_failure, write_failure
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money
from services.chassis.values.session import Asker, Session

_c = approvals.c
# How long after its time ran out an approval is still asked whether it waits: so long a job has to write down its end.
_LATE = timedelta(days=7)


# All but the texts, which may be long: what is listed, compared or ended is read without them.
WITHOUT_TEXTS = [column for column in approvals.columns if column.name not in list_digested(approvals)]

# Whatever there is of a new one; a lease begins with its defaults.
_GIVEN_OF_NEW = [column for column in approvals.columns if column.name not in ("due_at", "epoch", "tries")]
# Built once: to build a statement costs more than to run it.
_INSERT = sa.insert(approvals).values(
    {column.name: sa.bindparam(f"new_{column.name}", type_=column.type) for column in _GIVEN_OF_NEW}
)


async def insert_approvals(tx: Tx, new: Sequence[Approval]) -> None:
    rows = [_build_row(approval) for approval in new]
    sealed = [
        row | {"content": approval.content, "result": approval.result, "seal": seal_of(tx, approvals, row)}
        for row, approval in zip(rows, new, strict=True)
    ]
    await tx.execute(_INSERT, [{f"new_{name}": value for name, value in row.items()} for row in sealed])


def _build_row(approval: Approval) -> dict[str, Any]:
    return {
        "org_id": approval.org_id,
        "approval_id": approval.approval_id,
        "kind": approval.kind,
        "summary": approval.summary,
        "resource_id": approval.resource_id,
        "scope_id": approval.scope_id,
        "amount_minor": approval.amount.amount_minor if approval.amount else None,
        "currency": approval.amount.currency if approval.amount else None,
        "content_hash": approval.content_hash,
        "effect_hash": approval.effect_hash,
        "anew_hash": approval.anew_hash,
        "asked_etag": approval.asked_etag,
        "matter_hash": approval.matter_hash,
        "makers": sorted(approval.makers),
        "beneficiary_party_ids": sorted(approval.beneficiary_party_ids),
        "created_by": approval.created_by,
        "created_role": approval.created_role,
        "earlier_askers": [{"person": each.person, **each.session._asdict()} for each in approval.earlier_askers],
        "created_at": approval.created_at,
        "expires_at": approval.expires_at,
        **_changing(approval),
    }


async def save_approval(tx: Tx, approval: Approval, *, due_at: Any = None) -> None:
    """Writes what a decision changes, in the next version.

    Args:
        due_at: When a job goes on with it, by the database's clock; None: there is nothing more to do.
    """
    changed = {
        **_changing(approval),
        "result": approval.result,
        "seal": seal_of(tx, approvals, _build_row(approval)),
        "epoch": approval.epoch,
    }
    values = {f"new_{name}": value for name, value in changed.items()}
    this = {"of_org_id": approval.org_id, "of_approval_id": approval.approval_id}
    update = _UPDATE if due_at is None else _UPDATE.values(due_at=due_at)
    written = (await tx.execute(update, this | values)).rowcount
    invariant(written == 1, "an approval is changed under its lock")


async def find_approval(tx: Tx, org_id: str, approval_id: str) -> Approval | None:
    """With all that it says. Raises: NotSealed: somebody wrote it past this service."""
    query = sa.select(approvals).where(_c.org_id == org_id, _c.approval_id == approval_id)
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _read(tx, row)


async def lock_approval(tx: Tx, found: Approval) -> Approval:
    """One that was found, as it is now, with all that it says. Raises: NotSealed."""
    await _lock_about(tx, found.kind, found.resource_id)
    query = sa.select(approvals).where(_c.org_id == found.org_id, _c.approval_id == found.approval_id)
    return _read(tx, (await tx.execute(query.with_for_update())).one())


async def _lock_about(tx: Tx, kind: str, resource_id: str) -> None:
    """One after the other: whoever decides one of those about a resource may end the others."""
    await lock_name(tx, "about", kind, resource_id)


async def fetch_approval(reader: Reader, approval_id: str) -> tuple[Approval, int] | None:
    """One of the caller's organization, with all that it says, and its aggregate's version. Raises: NotSealed."""
    row = await fetch_row(reader, _BY_ID, approval_id=approval_id)
    return None if row is None else (_read(reader, row), row.aggregate_version)


_BY_ID = Read(
    with_version(sa.select(approvals), _c.approval_id).where(
        is_mine(approvals), _c.approval_id == sa.bindparam("approval_id")
    )
)


async def lock_pending(tx: Tx, org_id: str, kind: str, resource_id: str, now: datetime) -> list[Approval]:
    """The approvals of this kind that wait about a resource, by age: where it waits itself the last one counts.

    Raises: NotSealed: somebody wrote one about it past this service; it may be the one that waits.
    """
    await _lock_about(tx, kind, resource_id)
    query = _selecting_open(_c.org_id == org_id, kind, resource_id, now - _LATE).with_for_update()
    return _keep_pending(tx, await tx.execute(query))


async def lock_readable(tx: Tx, org_id: str, kind: str, resource_id: str, now: datetime) -> list[Approval]:
    """As `lock_pending`, without what somebody wrote past this service, and without the texts."""
    await _lock_about(tx, kind, resource_id)
    about = {"kind": kind, "resource_id": resource_id, "late_since": now - _LATE}
    rows = await tx.execute(_LOCKING_OPEN, {"of_org_id": org_id, **about})
    return [each for each in keep_readable(tx, rows) if each.status is Status.PENDING]


async def lock_same(tx: Tx, approval: Approval, now: datetime) -> list[Approval]:
    """What else was asked for about the resource with the same content, and waits; without what somebody wrote past
    this service, and without the texts."""
    await _lock_about(tx, approval.kind, approval.resource_id)
    whose, late_since = _c.org_id == approval.org_id, now - _LATE
    query = _selecting_open(whose, approval.kind, approval.resource_id, late_since).where(
        _c.content_hash == approval.content_hash, _c.approval_id != approval.approval_id
    )
    found = keep_readable(tx, await tx.execute(query.with_only_columns(*WITHOUT_TEXTS).with_for_update()))
    return [each for each in found if each.status is Status.PENDING]


async def find_pending_about(source: Source, kind: str, resource_id: str, now: datetime) -> Approval | None:
    """The approval of this kind, of the caller's organization, that waits about a resource which itself waits.

    Raises: NotSealed.
    """
    rows = await fetch_rows(source, _OPEN, kind=kind, resource_id=resource_id, late_since=now - _LATE)
    return next(reversed(_keep_pending(source, rows)), None)


def _selecting_about(whose: sa.ColumnElement[bool], kind: Any, resource_id: Any) -> sa.Select[Any]:
    query = sa.select(approvals).where(whose, _c.kind == kind, _c.resource_id == resource_id)
    return query.order_by(_c.approval_id)


def _selecting_open(whose: sa.ColumnElement[bool], kind: Any, resource_id: Any, late_since: Any) -> sa.Select[Any]:
    """The statement that finds those about a resource of which one may wait.

    Until when it can be decided never changes in the life of a row, and no login may change it (data/rights.py). The
    status can be altered, so it is not asked here: the approval that waits is always found, and a row that is too old
    to be decided stops nobody, whatever became of it.
    """
    may_wait = sa.or_(_c.expires_at.is_(None), _c.expires_at > late_since)
    return _selecting_about(whose, kind, resource_id).where(may_wait)


_ABOUT: tuple[Any, ...] = (
    sa.bindparam("kind"),
    sa.bindparam("resource_id"),
    sa.bindparam("late_since", type_=_c.expires_at.type),
)
_OPEN = Read(_selecting_open(is_mine(approvals), *_ABOUT))
_LOCKING_OPEN = (
    _selecting_open(_c.org_id == sa.bindparam("of_org_id"), *_ABOUT).with_only_columns(*WITHOUT_TEXTS).with_for_update()
)


def _keep_pending(source: Source, rows: Iterable[Any]) -> list[Approval]:
    """Those that wait, of rows that say what this service wrote."""
    return [each for each in [_read(source, row) for row in rows] if each.status is Status.PENDING]


async def find_last_about(tx: Tx, org_id: str, kind: str, resource_id: str) -> Approval | None:
    """The approval of this kind that was asked for last about a resource, whatever became of it. Raises: NotSealed."""
    query = (
        _selecting_about(_c.org_id == org_id, kind, resource_id).order_by(None).order_by(_c.approval_id.desc()).limit(1)
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _read(tx, row)


async def lock_asked(tx: Tx, org_id: str, kind: str, content_hash: str, created_by: str) -> Approval | None:
    """What a person has asked for already with this content, and nobody has decided; locked."""
    query = sa.select(approvals).where(
        _c.org_id == org_id,
        _c.kind == kind,
        _c.content_hash == content_hash,
        _c.created_by == created_by,
        _c.status == Status.PENDING,
    )
    row = (await tx.execute(query.order_by(_c.created_at.desc()).limit(1).with_for_update())).one_or_none()
    return None if row is None else _read(tx, row)


async def list_asked(
    tx: Tx, org_id: str, kind: str, resource_id: str, created_by: str, cancelled_since: datetime
) -> list[Approval]:
    """What a person asked for about a resource and nobody else ended: what waits, and what they took back since then.

    Without what somebody wrote past this service: it keeps nobody from asking; and without the texts.
    """
    taken_back = (_c.status == Status.CANCELLED, _c.decided_by == created_by, _c.updated_at > cancelled_since)
    undecided = (_c.created_by == created_by, sa.or_(_c.status == Status.PENDING, sa.and_(*taken_back)))
    query = _selecting_about(_c.org_id == org_id, kind, resource_id).where(*undecided)
    return keep_readable(tx, await tx.execute(query.with_only_columns(*WITHOUT_TEXTS)))


async def find_decided_hash(tx: Tx, org_id: str, kind: str, resource_id: str) -> str | None:
    """The hash of the content about a resource that was approved last, of all: what was decided may be done much later.

    Raises: NotSealed.
    """
    query = _selecting_about(_c.org_id == org_id, kind, resource_id).with_only_columns(*WITHOUT_TEXTS)
    about = [_read(tx, row) for row in await tx.execute(query)]
    decided = [each for each in about if each.status in (Status.APPROVED, Status.EXECUTED)]
    return max(decided, key=lambda each: (each.decided_at, each.approval_id)).content_hash if decided else None


async def find_being_done(tx: Tx, kind: str, resource_id: str) -> Approval | None:
    """The approval by which the caller does this about the resource; None where it does so by none that was approved.

    Raises: NotSealed.
    """
    principal = current_principal()
    found = None if principal.approval_id is None else await find_approval(tx, principal.org_id, principal.approval_id)
    if found is None or found.status is not Status.APPROVED:
        return None
    return found if (found.kind, found.resource_id) == (kind, resource_id) else None


# What waits and whose time ran out.
EXPIRED = Due(approvals, _c.status == Status.PENDING, _c.expires_at)
# What was decided, and is not done.
UNDONE = Due(approvals, _c.status == Status.APPROVED, _c.decided_at)


# Long enough for the slowest deed; whoever approved it does it at once, and a job only what that process left behind.
EXECUTION_LEASE_MS = 30_000
LEFT_BEHIND = build_taking(approvals, lease_ms=EXECUTION_LEASE_MS, count_max=10, where=_c.status == Status.APPROVED)


async def take_approved(database: Database) -> list[Approval]:
    """Takes approvals that were approved and are not done."""
    taken = await take_sealed(database, approvals, LEFT_BEHIND)
    return [_to_approval(row) for row in taken]


def keep_readable(source: Source, rows: Iterable[Any]) -> list[Approval]:
    """Those of the rows that this service wrote. The others are in the log."""
    return [_to_approval(row) for row in keep_sealed(source, approvals, rows)]


async def postpone_approved(tx: Tx, taken: Approval) -> None:
    """Gives one back that could not be done yet."""
    await postpone(tx, approvals, {name: getattr(taken, name) for name in ("org_id", "approval_id", "epoch", "tries")})


def _read(source: Source, row: Any) -> Approval:
    return _to_approval(check_row(source, approvals, row))


def _to_approval(row: Any) -> Approval:
    comments = tuple(
        Comment(each["created_by"], each["text"], datetime.fromisoformat(each["created_at"])) for each in row.comments
    )
    return Approval(
        org_id=row.org_id,
        approval_id=row.approval_id,
        version=row.version,
        kind=row.kind,
        summary=row.summary,
        status=Status(row.status),
        resource_id=row.resource_id,
        scope_id=row.scope_id,
        amount=None if row.amount_minor is None else Money(row.amount_minor, row.currency),
        text=getattr(row, "content", None),
        content_hash=row.content_hash,
        effect_hash=row.effect_hash,
        anew_hash=row.anew_hash,
        asked_etag=row.asked_etag,
        matter_hash=row.matter_hash,
        makers=frozenset(row.makers),
        beneficiary_party_ids=frozenset(row.beneficiary_party_ids),
        created_by=row.created_by,
        created_role=row.created_role,
        session=Session.of_row(row),
        created_at=row.created_at,
        expires_at=row.expires_at,
        updated_at=row.updated_at,
        approvers_needed=row.approvers_needed,
        approvers=tuple(map(Approver, row.approver_ids, row.approved_at, row.approver_signed_in_at)),
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        note=row.note,
        result_id=row.result_id,
        result=getattr(row, "result", None),
        result_hash=row.result_hash,
        failure=read_failure(row.failure),
        epoch=row.epoch,
        tries=row.tries,
        comments=comments,
        earlier_askers=tuple(
            Asker(each["person"], Session(each["signed_in_at"], each["api_key_id"])) for each in row.earlier_askers
        ),
    )


def _changing(approval: Approval) -> dict[str, Any]:
    return {
        "version": approval.version,
        "status": approval.status,
        "updated_at": approval.updated_at,
        **approval.session._asdict(),
        "approvers_needed": approval.approvers_needed,
        "approver_ids": [each.approved_by for each in approval.approvers],
        "approved_at": [each.approved_at for each in approval.approvers],
        "approver_signed_in_at": [each.signed_in_at for each in approval.approvers],
        "decided_by": approval.decided_by,
        "decided_at": approval.decided_at,
        "note": approval.note,
        "result_id": approval.result_id,
        "result_hash": approval.result_hash,
        "failure": write_failure(approval.failure),
        "comments": [{**asdict(each), "created_at": each.created_at.isoformat()} for each in approval.comments],
    }


_CHANGED = (
    *("version", "status", "updated_at", "signed_in_at", "api_key_id", "approvers_needed", "approver_ids"),
    *("approved_at", "approver_signed_in_at", "decided_by", "decided_at", "note", "result_id", "result_hash"),
    *("failure", "comments", "seal", "epoch"),
)
# What a decision changes. Nothing more is due, unless the statement says when. What was answered once stays: it may not
# have been read.
_UPDATE = (
    sa.update(approvals)
    .where(_c.org_id == sa.bindparam("of_org_id"), _c.approval_id == sa.bindparam("of_approval_id"))
    .values({name: sa.bindparam(f"new_{name}", type_=_c[name].type) for name in _CHANGED})
    .values(due_at=None, tries=0, result=sa.func.coalesce(sa.bindparam("new_result", type_=_c.result.type), _c.result))
)
