"""What a crash left, and what is due: one job a kind of saga, each doing one step at a time."""

from __future__ import annotations

from functools import partial

from prometheus_client import Gauge

from services.chassis.process.jobs import Job
from services.distributions.commands.raises.recounts import follow_incarnation, recount_offering
from services.distributions.commands.sagas import advance_saga, reopen_sagas
from services.distributions.dependencies import Dependencies
from services.distributions.domain.sagas import SagaKind
from services.distributions.store.counted_journals import TAKING as COUNTING
from services.distributions.store.counted_journals import WAITING
from services.distributions.store.sagas import TAKING, UNFINISHED, measure_oldest_seconds

SAGA_OLDEST_SECONDS = Gauge("realco_distributions_saga_oldest_seconds", "Age of the oldest saga that is not done.")
_MEASURE_SECONDS = 60.0
_REOPEN_SECONDS = 60.0
_INCARNATION_SECONDS = 15.0
_KINDS = {
    "advance_closings": SagaKind.CLOSING,
    "advance_refunds": SagaKind.REFUND,
    "advance_executions": SagaKind.EXECUTION,
    "advance_resends": SagaKind.RESEND,
}
# Looked at by `watch_overdue`.
WORK = (UNFINISHED, WAITING)


def build_jobs(dependencies: Dependencies) -> list[Job]:
    sagas = [
        Job(name, partial(advance_saga, kind, dependencies), work=TAKING[kind].first_due)
        for name, kind in _KINDS.items()
    ]
    return [
        *sagas,
        Job("recount_offerings", partial(recount_offering, dependencies), work=COUNTING.first_due),
        Job("follow_incarnation", partial(follow_incarnation, dependencies), _INCARNATION_SECONDS),
        Job("reopen_sagas", partial(reopen_sagas, dependencies), _REOPEN_SECONDS),
        Job("measure_saga_age", partial(_measure_saga_age, dependencies), _MEASURE_SECONDS),
    ]


async def _measure_saga_age(dependencies: Dependencies) -> int:
    """Says how old the oldest unfinished saga is: what hangs is found before somebody asks for their money."""
    async with dependencies.database.begin_for_all() as tx:
        SAGA_OLDEST_SECONDS.set(await measure_oldest_seconds(tx))
    return 0
