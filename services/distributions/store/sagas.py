"""Sagas as rows: taken by one worker at a time for a while, finished by whoever took them last.

For whom a saga acts, and on what, is sealed. That one is due, or is not, says nothing: what is to be done stands in
what it is about, which names the one saga that does it. So one that was ended before its work is found, and one that
somebody has begun again, for a closing that came to nothing, closes nothing in the name of who asked for that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from services.chassis.calls.auth import current_principal
from services.chassis.data import leases
from services.chassis.data.database import Database
from services.chassis.data.due import Due
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_rows, seal_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.ids import new_id
from services.chassis.values.session import Session
from services.distributions.domain.sagas import Mandate, SagaKind
from services.distributions.domain.states import DistributionStatus, OfferingStatus, PayoutStatus
from services.distributions.tables import distributions, investments, offerings, payouts, sagas


@dataclass(frozen=True, slots=True)
class Saga:
    """A saga as it was taken. `epoch` counts the takings: an outcome is written only by whoever took it last."""

    org_id: str
    saga_id: str
    kind: SagaKind
    subject_id: str
    mandate: Mandate
    epoch: int
    tries: int


# What is not done.
UNFINISHED = Due(sagas, sagas.c.due_at.is_not(None), sagas.c.created_at)


class Overtaken(Exception):
    """Somebody else took the saga meanwhile: what this worker did is theirs to record."""


async def insert_saga(tx: Tx, kind: SagaKind, subject_id: str, mandate: Mandate) -> str:
    """A saga that is due at once; its id."""
    values: dict[str, Any] = {
        "org_id": current_principal().org_id,
        "saga_id": new_id("saga"),
        "kind": kind.value,
        "subject_id": subject_id,
        "actor": mandate.actor,
        **mandate.session._asdict(),
        "makers_and_checkers": sorted(mandate.makers_and_checkers),
    }
    seal = seal_of(tx, sagas, values)
    await tx.execute(sa.insert(sagas).values(**values, seal=seal, due_at=leases.due_in(0)))
    saga_id: str = values["saga_id"]
    return saga_id


async def list_mandates(tx: Tx, saga_ids: Collection[str]) -> dict[str, Mandate]:
    """By which each of the caller's organization's sagas works. Raises: NotSealed."""
    query = sa.select(sagas).where(is_mine(sagas), sagas.c.saga_id.in_(saga_ids))
    return {row.saga_id: _read_mandate(row) for row in check_rows(tx, sagas, await tx.execute(query))}


def _read_mandate(row: Row) -> Mandate:
    return Mandate(row.actor, Session.of_row(row), frozenset(row.makers_and_checkers))


TAKING = {kind: leases.build_taking(sagas, count_max=1, where=sagas.c.kind == kind.value) for kind in SagaKind}


async def take_saga(database: Database, kind: SagaKind) -> Saga | None:
    """The saga that has been due the longest and that nobody works on, now ours; None if there is none."""
    for row in await leases.take_sealed(database, sagas, TAKING[kind]):
        kind, mandate = SagaKind(row.kind), _read_mandate(row)
        return Saga(row.org_id, row.saga_id, kind, row.subject_id, mandate, row.epoch, row.tries)
    return None


async def continue_saga(tx: Tx, saga: Saga) -> None:
    """A step ended, and there may be another: due at once. First statement of what keeps the outcome.

    Raises:
        Overtaken: it is not ours any more.
    """
    await _give_back(tx, saga, due_ms=0)


async def finish_saga(tx: Tx, saga: Saga) -> None:
    """Nothing is left to be done. Raises: Overtaken."""
    await _give_back(tx, saga, due_ms=None)


async def _give_back(tx: Tx, saga: Saga, *, due_ms: int | None) -> None:
    if not await leases.finish(tx, sagas, _key(saga), due_ms=due_ms, last_error=None):
        raise Overtaken(saga.saga_id)


async def postpone_saga(tx: Tx, saga: Saga, error: str) -> None:
    """The outcome is unknown: the same step again, later and later, for ever. Raises: Overtaken."""
    if not await leases.postpone(tx, sagas, _key(saga), last_error=error):
        raise Overtaken(saga.saga_id)


def _key(saga: Saga) -> dict[str, object]:
    return {"org_id": saga.org_id, "saga_id": saga.saga_id, "epoch": saga.epoch, "tries": saga.tries}


def _find_unfinished() -> sa.Subquery:
    """The sagas whose work is not done, by what says so: offerings, investments, distributions and payouts."""
    asked = sa.select(payouts.c.org_id, payouts.c.saga_id).where(payouts.c.status == PayoutStatus.REQUESTED.value)
    closing = sa.select(offerings.c.org_id, offerings.c.closing_saga_id)
    queued = sa.select(distributions.c.org_id, distributions.c.execution_saga_id)
    cancelling = sa.select(investments.c.org_id, investments.c.cancelling_saga_id)
    return sa.union(
        asked,
        cancelling.where(investments.c.cancelling_saga_id.is_not(None)),
        closing.where(offerings.c.status == OfferingStatus.CLOSING.value),
        queued.where(distributions.c.status == DistributionStatus.QUEUED.value),
    ).subquery("unfinished")


_unfinished = _find_unfinished()
_REOPENING = (
    sa.update(sagas)
    .where(sagas.c.org_id == _unfinished.c.org_id, sagas.c.saga_id == _unfinished.c.saga_id)
    .where(sagas.c.due_at.is_(None))
    .values(due_at=leases.due_in(0), tries=0)
    .returning(sagas.c.saga_id)
)


async def reopen_unfinished(tx: Tx) -> list[str]:
    """Makes sagas due that somebody ended before their work: both end in one transaction. Their ids."""
    return list(await tx.scalars(_REOPENING))


async def measure_oldest_seconds(tx: Tx) -> float:
    """How old the oldest saga is that is not done; 0 if all are."""
    age = sa.func.now() - sa.func.min(sagas.c.created_at)
    query = sa.select(sa.extract("epoch", age)).where(sagas.c.due_at.is_not(None))
    return float(await tx.scalar(query) or 0)
