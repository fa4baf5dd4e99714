"""Checks of parties, and the checks that hold the decisions about transactions. Every change is published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.compliance.v1 import events_pb2 as events
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data import outbox
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_row, check_rows, keep_sealed, seal_rows
from services.compliance import messages
from services.compliance.domain import clearance
from services.compliance.domain.clearance import Check
from services.compliance.tables import compliance_checks

_c = compliance_checks.c
_EVENTS = {
    "MANUAL_REVIEW": events.ComplianceCheckCreated,
    "PASSED": events.ComplianceCheckCompleted,
    "FAILED": events.ComplianceCheckCompleted,
    "EXPIRED": events.ComplianceCheckExpired,
}


async def find_check(tx: AsyncConnection, check_id: str) -> sa.Row[Any] | None:
    """Raises: NotSealed."""
    row = (
        await tx.execute(
            sa.select(compliance_checks).where(is_mine(compliance_checks), _c.compliance_check_id == check_id)
        )
    ).one_or_none()
    return None if row is None else check_row(tx, compliance_checks, row)


async def insert_check(tx: AsyncConnection, now: datetime, **values: Any) -> sa.Row[Any]:
    """A check of a locked party."""
    statement = sa.insert(compliance_checks).values(**values, created_at=now, updated_at=now)
    row = (await tx.execute(statement.returning(compliance_checks))).one()
    await seal_rows(tx, compliance_checks, [row])
    await _publish(tx, [row], now)
    return row


async def save_check(tx: AsyncConnection, before: Any, now: datetime, **changes: Any) -> sa.Row[Any]:
    """Changes a check of a locked party."""
    mine = sa.and_(_c.org_id == before.org_id, _c.compliance_check_id == before.compliance_check_id)
    statement = sa.update(compliance_checks).where(mine).values(**changes, updated_at=now)
    row = (await tx.execute(statement.returning(compliance_checks))).one()
    await seal_rows(tx, compliance_checks, [row])
    await _publish(tx, [row], now)
    return row


async def list_latest_checks(tx: AsyncConnection, party_ids: Collection[str]) -> dict[str, dict[str, Check]]:
    """For each party, the latest check of each required type."""
    found: dict[str, dict[str, Check]] = defaultdict(dict)
    rows = await tx.execute(select_latest_checks().where(_c.party_id.in_(party_ids)))
    for row in keep_sealed(tx, compliance_checks, rows):
        because = row.explanation["statement"] if row.explanation else ""
        found[row.party_id][row.check_type] = Check(row.status, row.expires_at, because)
    return found


async def list_latest_rows(tx: AsyncConnection, party_id: str) -> dict[str, sa.Row[Any]]:
    """The latest check of each required type of one party."""
    rows = await tx.execute(select_latest_checks().where(_c.party_id == party_id))
    return {row.check_type: row for row in keep_sealed(tx, compliance_checks, rows)}


def select_latest_checks() -> sa.Select[Any]:
    """Each party's latest check of each required type."""
    return (
        sa.select(compliance_checks)
        .ext(pg.distinct_on(_c.party_id, _c.check_type))
        .where(
            is_mine(compliance_checks), _c.entity_type == "PARTY", _c.check_type.in_(clearance.list_required_types())
        )
        .order_by(_c.party_id, _c.check_type, _c.created_at.desc(), _c.compliance_check_id.desc())
    )


async def list_organizations_with_expired_checks(tx: AsyncConnection, now: datetime) -> list[str]:
    due = sa.select(_c.org_id).where(_c.status == "PASSED", _c.expires_at <= now).distinct()
    return list(await tx.scalars(due))


async def list_expired_checks(tx: AsyncConnection, now: datetime, most: int) -> list[sa.Row[Any]]:
    """PASSED checks whose time ran out, the longest overdue first."""
    due = sa.select(compliance_checks).where(is_mine(compliance_checks), _c.status == "PASSED", _c.expires_at <= now)
    return keep_sealed(tx, compliance_checks, await tx.execute(due.order_by(_c.expires_at).limit(most)))


# --- decisions about transactions -------------------------------------------------------------------------------------


async def list_decisions(tx: AsyncConnection, transaction_ids: Collection[str]) -> dict[str, sa.Row[Any]]:
    """The decisions there are already, by transaction. Raises: NotSealed."""
    statement = sa.select(compliance_checks).where(
        is_mine(compliance_checks), _c.entity_type == "TRANSACTION", _c.entity_id.in_(transaction_ids)
    )
    return {row.entity_id: row for row in check_rows(tx, compliance_checks, await tx.execute(statement))}


async def insert_decisions(tx: AsyncConnection, rows: Collection[Mapping[str, Any]], now: datetime) -> set[str]:
    """Stores each decision unless its transaction has got one meanwhile; the transactions whose decision it is.

    The lock of a party that does not exist is nobody's, so two may come to decide on its transaction at once.
    """
    if not rows:
        return set()
    new = pg.insert(compliance_checks).values([{**row, "created_at": now, "updated_at": now} for row in rows])
    inserted = (await tx.execute(new.on_conflict_do_nothing().returning(compliance_checks))).all()
    await seal_rows(tx, compliance_checks, inserted)
    await _publish(tx, inserted, now)
    return {row.entity_id for row in inserted}


async def _publish(tx: AsyncConnection, rows: Collection[Any], now: datetime) -> None:
    changes = [_EVENTS[row.status](compliance_check=messages.to_compliance_check(row)) for row in rows]
    if changes:
        await outbox.enqueue_all(tx, changes, now=now)
