"""Webhooks: each event of a provider once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.transactions.store.transactions import due_in, is_due
from services.transactions.tables import webhooks

_c = webhooks.c


async def insert(tx: AsyncConnection, *, due_now: bool, **values: Any) -> tuple[str, bool]:
    """(webhook_id, whether it is new): a repeated event finds the row of the first."""
    row = pg.insert(webhooks).values(**values, due_at=due_in(0) if due_now else None)
    statement = row.on_conflict_do_nothing(constraint="webhooks_event").returning(_c.webhook_id)
    created = await tx.scalar(statement)
    if created is not None:
        return str(created), True
    first = sa.select(_c.webhook_id).where(
        _c.provider == values["provider"], _c.provider_event_id == values["provider_event_id"]
    )
    return str((await tx.execute(first)).scalar_one()), False


async def lock(tx: AsyncConnection, org_id: str, webhook_id: str) -> sa.Row[Any] | None:
    statement = sa.select(webhooks).where(_c.org_id == org_id, _c.webhook_id == webhook_id)
    return (await tx.execute(statement.with_for_update(key_share=True))).one_or_none()


def claiming(*, lease_ms: int, count_max: int) -> sa.Executable:
    """The statement of `claim`: how many it takes, and for how long."""
    due = (
        sa.select(_c.webhook_id)
        .where(_c.status == "RECEIVED", is_due(_c.due_at))
        .order_by(_c.due_at)
        .limit(count_max)
        .with_for_update(skip_locked=True, key_share=True)
        .cte("due")
    )
    return (
        sa.update(webhooks)
        .where(_c.webhook_id == due.c.webhook_id)
        .values(epoch=_c.epoch + 1, tries=_c.tries + 1, due_at=due_in(lease_ms))
        .returning(webhooks)
    )


async def claim(tx: AsyncConnection, statement: sa.Executable) -> list[sa.Row[Any]]:
    """Takes webhooks that are due to be applied, oldest first."""
    return list(await tx.execute(statement))


async def put_off(tx: AsyncConnection, claimed: sa.Row[Any], milliseconds: int) -> None:
    await _update(tx, claimed, due_at=due_in(milliseconds))


async def finish(
    tx: AsyncConnection,
    claimed: sa.Row[Any],
    status: str,
    now: datetime,
    *,
    failure: str = "",
    org_id: str = "",
    transaction_id: str = "",
) -> None:
    """Says what became of it, and whose it was."""
    known = {"org_id": org_id, "transaction_id": transaction_id} if transaction_id else {}
    await _update(tx, claimed, status=status, failure=failure, applied_at=now, due_at=None, **known)


async def receive_again(tx: AsyncConnection, row: sa.Row[Any]) -> sa.Row[Any]:
    statement = (
        sa.update(webhooks)
        .where(_c.webhook_id == row.webhook_id)
        .values(status="RECEIVED", failure="", applied_at=None, tries=0, due_at=due_in(0))
        .returning(webhooks)
    )
    return (await tx.execute(statement)).one()


async def _update(tx: AsyncConnection, claimed: sa.Row[Any], **values: Any) -> None:
    await tx.execute(
        sa.update(webhooks).where(_c.webhook_id == claimed.webhook_id, _c.epoch == claimed.epoch).values(values)
    )
