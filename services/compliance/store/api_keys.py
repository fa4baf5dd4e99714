"""API keys: rows in, rows out. Every change is published with the key's state, and no secret leaves by it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.compliance.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data import outbox
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_row, keep_sealed, seal_rows
from services.compliance import messages
from services.compliance.domain.api_keys import LIVE, USE_KEPT_EVERY, Status
from services.compliance.tables import api_keys

_c = api_keys.c
_EVENTS = {Status.REVOKED: events.ApiKeyRevoked, Status.EXPIRED: events.ApiKeyExpired}


async def find_organization_of_key(tx: AsyncConnection, api_key_id: str) -> str | None:
    """Whose key it is: a program names its key alone. In a transaction over all organizations."""
    found: str | None = await tx.scalar(sa.select(_c.org_id).where(_c.api_key_id == api_key_id))
    return found


async def find_api_key(tx: AsyncConnection, api_key_id: str) -> sa.Row[Any] | None:
    """Raises: NotSealed."""
    row = (await tx.execute(_select_one(api_key_id))).one_or_none()
    return None if row is None else check_row(tx, api_keys, row)


async def lock_api_key(tx: AsyncConnection, api_key_id: str) -> sa.Row[Any] | None:
    """Raises: NotSealed."""
    row = (await tx.execute(_select_one(api_key_id).with_for_update(key_share=True))).one_or_none()
    return None if row is None else check_row(tx, api_keys, row)


async def lock_live_keys_of(tx: AsyncConnection, holder: str) -> list[sa.Row[Any]]:
    """Those that have not ended, in the order of their ids."""
    return await _lock_live(tx, sa.select(api_keys).where(_c.created_by == holder))


async def list_organizations_with_expired_keys(tx: AsyncConnection, now: datetime) -> Sequence[str]:
    return (await tx.scalars(sa.select(_c.org_id).where(_c.status.in_(LIVE), _c.expires_at <= now).distinct())).all()


async def lock_expired_keys(tx: AsyncConnection, now: datetime, most: int) -> list[sa.Row[Any]]:
    """Those whose time ran out and that nobody has marked yet, in the order of their ids."""
    return await _lock_live(tx, sa.select(api_keys).where(_c.expires_at <= now).limit(most))


async def _lock_live(tx: AsyncConnection, found: sa.Select[Any]) -> list[sa.Row[Any]]:
    """In one order, so that nobody waits for each other. A row that is not ours is left out: it opens nothing."""
    live = found.where(is_mine(api_keys), _c.status.in_(LIVE)).order_by(_c.api_key_id)
    return keep_sealed(tx, api_keys, await tx.execute(live.with_for_update(key_share=True)))


async def insert_api_key(tx: AsyncConnection, now: datetime, *, next_digest: bytes, **values: Any) -> sa.Row[Any]:
    """A key with a secret that waits for a second person."""
    made = {"next_digest": next_digest, "next_made_at": sa.func.now(), "next_grace_seconds": 0}
    statement = sa.insert(api_keys).values(**values, **made, version=1, created_at=now, updated_at=now)
    row = (await tx.execute(statement.returning(api_keys))).one()
    await seal_rows(tx, api_keys, [row])
    await outbox.enqueue(tx, events.ApiKeyCreated(api_key=messages.to_api_key(row)), now=now)
    return row


async def save_next_secret(
    tx: AsyncConnection, row: Any, now: datetime, *, digest: bytes, grace_seconds: int
) -> sa.Row[Any]:
    """Another secret of a locked key waits. It was made at this moment of the database, as the ends of sessions are."""
    made = {"next_digest": digest, "next_made_at": sa.func.now(), "next_grace_seconds": grace_seconds}
    return await save_api_key(tx, row, now, **made)


async def save_api_key(tx: AsyncConnection, row: Any, now: datetime, **changes: Any) -> sa.Row[Any]:
    """Changes a locked key, and publishes it."""
    values = {**changes, "version": row.version + 1, "updated_at": now}
    statement = sa.update(api_keys).where(_c.org_id == row.org_id, _c.api_key_id == row.api_key_id)
    changed = (await tx.execute(statement.values(values).returning(api_keys))).one()
    await seal_rows(tx, api_keys, [changed])
    event = _EVENTS.get(changed.status, events.ApiKeyUpdated)
    await outbox.enqueue(tx, event(api_key=messages.to_api_key(changed)), now=now)
    return changed


async def save_use(tx: AsyncConnection, row: Any, now: datetime) -> None:
    """Notes that the key was used, as exactly as it is told: nothing depends on it."""
    mine = (_c.org_id == row.org_id, _c.api_key_id == row.api_key_id)
    is_old = sa.or_(_c.last_used_at.is_(None), _c.last_used_at <= now - USE_KEPT_EVERY)
    await tx.execute(sa.update(api_keys).where(*mine, is_old).values(last_used_at=now))


def _select_one(api_key_id: str) -> sa.Select[Any]:
    return sa.select(api_keys).where(is_mine(api_keys), _c.api_key_id == api_key_id)
