"""The steps that reach other services, in order: a command begins a saga as a row, a job does one step after another.

A closing begins with the release of its subscriptions, an execution with its declaration, a refund with the cancelling
of contributions that wait; resends begin with the asking for their payouts, in which they all end. What is to be done
is what the offering, the investments, the distribution or the payouts say, which are sealed. A saga only says what to
look at: whoever edits sagas can delay, and nothing else.

A step reads what it intends, calls the other service under a key made from that, and commits the outcome. What then
becomes of the payouts comes as events (payouts/outcomes.py).

A definite refusal ends a step as the business says. An unknown outcome repeats it under the same key, later and
later, for ever. Whoever dies in between leaves the saga to the next worker, who asks again and gets the first answer.
"""

from __future__ import annotations

from dataclasses import replace

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.data.database import Database
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.distributions.commands.distributions.declarations import declare_distribution
from services.distributions.commands.payouts.requests import request_payouts
from services.distributions.commands.raises.cancellations import cancel_contributions
from services.distributions.commands.raises.releases import release_subscriptions
from services.distributions.dependencies import NAME, Dependencies
from services.distributions.domain.sagas import SagaKind
from services.distributions.store.sagas import (
    Overtaken,
    Saga,
    postpone_saga,
    reopen_unfinished,
    take_saga,
)

# What comes before the payouts. Each does nothing, and says so, where that is done already.
_FIRST_STEPS = {
    SagaKind.CLOSING: release_subscriptions,
    SagaKind.EXECUTION: declare_distribution,
    SagaKind.REFUND: cancel_contributions,
}


async def advance_saga(kind: SagaKind, dependencies: Dependencies) -> int:
    """Does one step of one saga of this kind that is due; 0 if none is."""
    database = dependencies.database
    saga = await take_saga(database, kind)
    if saga is None:
        return 0
    with acting_as(_principal_of(saga)):
        try:
            first = _FIRST_STEPS.get(saga.kind)
            if first is None or not await first(saga, dependencies):
                await request_payouts(saga, dependencies)  # again for each further batch
        except Overtaken:
            log.warning("saga_overtaken", saga_id=saga.saga_id, kind=kind.value, epoch=saga.epoch)
        except DomainError as unknown:
            await _postpone(saga, database, unknown.reason, unknown.message)
        except Exception as fault:  # of our own: the row says so, and the saga goes on once that is mended
            await _postpone(saga, database, type(fault).__name__, str(fault))
            raise
    return 1


def _principal_of(saga: Saga) -> Principal:
    """This service, in the name of who had it begun: what a step begins in its turn has the same mandate."""
    mandate = saga.mandate
    return replace(
        service_principal(NAME, saga.org_id, on_behalf_of=mandate.actor),
        asked_in=mandate.session,
        makers_and_checkers=mandate.makers_and_checkers,
    )


async def _postpone(saga: Saga, database: Database, reason: str, about: str) -> None:
    log.warning("saga_postponed", saga_id=saga.saga_id, kind=saga.kind.value, tries=saga.tries, reason=reason)
    async with database.begin() as tx:
        await postpone_saga(tx, saga, f"{reason}: {about}")


async def reopen_sagas(dependencies: Dependencies) -> int:
    """Has sagas go on that were ended before their work was done: no code of ours does that. Says how many."""
    async with dependencies.database.begin_for_all() as tx:
        reopened = await reopen_unfinished(tx)
    if reopened:
        log.error("sagas_reopened", saga_ids=reopened)
    return len(reopened)
