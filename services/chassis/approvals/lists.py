"""The lists of approvals: which there are, without what is decided on."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from services.chassis.data.tables import approvals
from services.chassis.values.approval import Status

_c = approvals.c


def having(
    *,
    statuses: Collection[str],
    kinds: Collection[str],
    ids: Collection[str],
    resource_ids: Collection[str],
    mine: bool | None,
    person: str,
    decidable: bool | None,
    decidable_kinds: Collection[str],
    scope_ids: Collection[str],
    created_by: Collection[str],
    currencies: Collection[str],
    amount_minor_from: int | None,
    now: datetime,
) -> list[sa.ColumnElement[bool]]:
    """The conditions of a list."""
    found: list[sa.ColumnElement[bool]] = []
    if statuses:
        found.append(_c.status.in_(statuses))
    if kinds:
        found.append(_c.kind.in_(kinds))
    if ids:
        found.append(_c.approval_id.in_(ids))
    if resource_ids:
        found.append(_c.resource_id.in_(resource_ids))
    found += [
        column.in_(wanted)
        for column, wanted in ((_c.scope_id, scope_ids), (_c.created_by, created_by), (_c.currency, currencies))
        if wanted
    ]
    is_mine = sa.literal(person) == sa.any_(_c.makers)
    if mine is not None:
        found.append(is_mine if mine else sa.not_(is_mine))
    if decidable is not None:
        is_open = sa.and_(_c.status == Status.PENDING, sa.or_(_c.expires_at.is_(None), _c.expires_at > now))
        has_said_yes = sa.literal(person) == sa.any_(_c.approver_ids)
        is_decidable = sa.and_(is_open, sa.not_(is_mine), sa.not_(has_said_yes), _c.kind.in_(decidable_kinds))
        found.append(is_decidable if decidable else sa.not_(is_decidable))
    if amount_minor_from is not None:
        found.append(_c.amount_minor >= amount_minor_from)
    return found
