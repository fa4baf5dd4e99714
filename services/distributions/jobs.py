"""What a crash left, and what is due: one job a kind of saga, each doing one step at a time."""

from __future__ import annotations

from functools import partial

from prometheus_client import Gauge

from services.chassis.data.database import Database
from services.chassis.process.jobs import Job
from services.chassis.values.clock import Clock
from services.distributions.clients import Peers
from services.distributions.commands import sagas
from services.distributions.store import sagas as store

SAGA_OLDEST_SECONDS = Gauge("realco_distributions_saga_oldest_seconds", "Age of the oldest saga that is not done.")
_MEASURE_SECONDS = 15.0
_INTERVAL_SECONDS = 0.25  # a nudge wakes them sooner; an idle look is one indexed query
_KINDS = {"closings": "CLOSING", "refunds": "REFUND", "executions": "EXECUTION", "resends": "RESEND"}


def jobs(database: Database, peers: Peers, clock: Clock) -> list[Job]:
    work = [
        Job(name, partial(sagas.advance_one, kind, database, peers, clock), _INTERVAL_SECONDS)
        for name, kind in _KINDS.items()
    ]
    return [*work, Job("saga_age", partial(_measure, database, clock), _MEASURE_SECONDS)]


async def _measure(database: Database, clock: Clock) -> int:
    """Tells how old the oldest unfinished saga is: what hangs is found before somebody asks for their money."""
    async with database.begin("*") as tx:
        began = await store.oldest(tx)
    SAGA_OLDEST_SECONDS.set(0 if began is None else (clock.now() - began).total_seconds())
    return 0
