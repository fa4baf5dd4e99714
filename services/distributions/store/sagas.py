"""Sagas as rows: taken by one worker at a time for a while, finished by whoever took them last."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import leases
from services.chassis.data.reach import is_mine
from services.chassis.values.ids import new_id
from services.distributions.tables import sagas


class SagaKind(Enum):
    CLOSING = "CLOSING"
    REFUND = "REFUND"
    EXECUTION = "EXECUTION"
    RESEND = "RESEND"


class SagaStep(Enum):
    RELEASE_SUBSCRIPTIONS = "RELEASE_SUBSCRIPTIONS"
    DECLARE_DISTRIBUTION = "DECLARE_DISTRIBUTION"
    REQUEST_PAYOUTS = "REQUEST_PAYOUTS"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Saga:
    """A saga as it was taken. `epoch` counts the takings: an outcome is written only by whoever took it last."""

    org_id: str
    saga_id: str
    kind: SagaKind
    subject_id: str
    step: SagaStep
    actor: str
    epoch: int
    tries: int


class Overtaken(Exception):
    """Somebody else took the saga meanwhile: what this worker did is theirs to record."""


async def insert_saga(tx: AsyncConnection, kind: SagaKind, subject_id: str, step: SagaStep, actor: str) -> str:
    """A saga that is due at once; its id."""
    saga_id = new_id("saga")
    await tx.execute(
        sa.insert(sagas).values(
            org_id=current_principal().org_id,
            saga_id=saga_id,
            kind=kind.value,
            subject_id=subject_id,
            step=step.value,
            actor=actor,
            due_at=leases.due_in(0),
        )
    )
    return saga_id


async def list_actors(tx: AsyncConnection, saga_ids: Collection[str]) -> dict[str, str]:
    """On whose behalf each of the caller's organization's sagas works."""
    statement = sa.select(sagas.c.saga_id, sagas.c.actor).where(is_mine(sagas), sagas.c.saga_id.in_(saga_ids))
    return {row.saga_id: row.actor for row in await tx.execute(statement)}


_TAKING = {kind: leases.taking(sagas, count_max=1, where=sagas.c.kind == kind.value) for kind in SagaKind}


async def take_saga(tx: AsyncConnection, kind: SagaKind) -> Saga | None:
    """The saga that has been due the longest and that nobody works on, now ours; None if there is none."""
    row = (await tx.execute(_TAKING[kind])).one_or_none()
    if row is None:
        return None
    return Saga(
        row.org_id,
        row.saga_id,
        SagaKind(row.kind),
        row.subject_id,
        SagaStep(row.step),
        row.actor,
        row.epoch,
        row.tries,
    )


async def save_step(tx: AsyncConnection, saga: Saga, step: SagaStep) -> None:
    """Ends a step: the saga stands at `step`, due at once. First statement of the transaction that keeps the outcome.

    Raises:
        Overtaken: it is not ours any more.
    """
    due_at = None if step is SagaStep.DONE else leases.due_in(0)
    changes = {"step": step.value, "due_at": due_at, "last_error": None}
    if not await leases.finish(tx, sagas, _key(saga), **changes):
        raise Overtaken(saga.saga_id)


async def postpone_saga(tx: AsyncConnection, saga: Saga, error: str) -> None:
    """The outcome is unknown: the same step again, later and later, for ever. Raises: Overtaken."""
    if not await leases.postpone(tx, sagas, _key(saga), last_error=error):
        raise Overtaken(saga.saga_id)


def _key(saga: Saga) -> dict[str, object]:
    return {"org_id": saga.org_id, "saga_id": saga.saga_id, "epoch": saga.epoch, "tries": saga.tries}


async def measure_oldest_seconds(tx: AsyncConnection) -> float:
    """How old the oldest saga is that is not done; 0 if all are."""
    age = sa.func.now() - sa.func.min(sagas.c.created_at)
    query = sa.select(sa.extract("epoch", age)).where(sagas.c.due_at.is_not(None))
    return float(await tx.scalar(query) or 0)
