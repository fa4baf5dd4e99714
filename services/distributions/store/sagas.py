"""Sagas as rows: claimed by one worker at a time, finished by whoever claimed last.

A claim is a lease and a new epoch. The lease keeps others away while the worker lives; the epoch refuses the outcome
of a worker that was thought dead (reliability rule c23).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.values.ids import new_id
from services.chassis.values.invariant import invariant
from services.distributions.store.rows import Row, insert
from services.distributions.tables import sagas

LEASE = timedelta(seconds=30)  # six times the longest remote call
_BACKOFF_SECONDS = (1, 2, 4, 8, 15, 30, 60, 120, 300)


class Overtaken(Exception):
    """Somebody else claimed the saga meanwhile: what this worker did is theirs to record."""


async def begin(tx: AsyncConnection, kind: str, subject_id: str, step: str, actor: str, now: datetime) -> Row:
    """A saga that is due at once."""
    row = await insert(
        tx,
        sagas,
        saga_id=new_id("saga"),
        kind=kind,
        subject_id=subject_id,
        step=step,
        due_at=now,
        actor=actor,
        created_at=now,
        updated_at=now,
    )
    invariant(row is not None, "a new saga has a new id")
    assert row is not None
    return row


async def claim(tx: AsyncConnection, kind: str, now: datetime) -> Row | None:
    """The saga that has been due the longest and that nobody works on, now ours; None if there is none."""
    due = (
        sa.select(sagas.c.saga_id)
        .where(sagas.c.kind == kind, sagas.c.step != "DONE", sagas.c.due_at <= now)
        .where(sa.or_(sagas.c.lease_until.is_(None), sagas.c.lease_until <= now))
        .order_by(sagas.c.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = (await tx.execute(due)).scalar_one_or_none()
    if found is None:
        return None
    update = sa.update(sagas).where(sagas.c.saga_id == found)
    claimed = update.values(epoch=sagas.c.epoch + 1, lease_until=now + LEASE, updated_at=now).returning(*sagas.c)
    return (await tx.execute(claimed)).one()


async def record(tx: AsyncConnection, saga: Row, step: str, now: datetime) -> None:
    """Ends a step: the saga stands at `step`, due at once. First statement of the transaction that keeps the outcome.

    Raises:
        Overtaken: the claim is not ours any more.
    """
    await _write(tx, saga, step=step, due_at=now, lease_until=None, attempts=0, last_error="", updated_at=now)


async def postpone(tx: AsyncConnection, saga: Row, error: str, now: datetime) -> None:
    """The outcome is unknown: the same step again, later and later, for ever. Raises: Overtaken."""
    pause = _BACKOFF_SECONDS[min(saga.attempts, len(_BACKOFF_SECONDS) - 1)]
    due_at = now + timedelta(seconds=pause)
    await _write(
        tx, saga, due_at=due_at, lease_until=None, attempts=saga.attempts + 1, last_error=error, updated_at=now
    )


async def _write(tx: AsyncConnection, saga: Row, **changes: object) -> None:
    mine = sa.update(sagas).where(sagas.c.saga_id == saga.saga_id, sagas.c.epoch == saga.epoch)
    if (await tx.execute(mine.values(**changes))).rowcount != 1:
        raise Overtaken(saga.saga_id)


async def oldest(tx: AsyncConnection) -> datetime | None:
    """When the oldest saga that is not done began."""
    return await tx.scalar(sa.select(sa.func.min(sagas.c.created_at)).where(sagas.c.step != "DONE"))
