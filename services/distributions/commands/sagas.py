"""The steps that reach other services: intent committed before, the call with a key made from it, the outcome after.

A definite refusal ends a step as the business says. An unknown outcome repeats it under the same key, later and
later, for ever. Whoever dies in between leaves the saga to the next worker, who asks again and gets the first answer.
"""

from __future__ import annotations

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database import Database
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock
from services.chassis.values.errors import DomainError
from services.distributions.clients import Peers
from services.distributions.commands.distributions import executions
from services.distributions.commands.payouts.requests import request_payouts
from services.distributions.commands.raises import closings
from services.distributions.store.sagas import Overtaken, Saga, SagaKind, SagaStep, postpone_saga, take_saga


async def advance_saga(kind: SagaKind, database: Database, peers: Peers, clock: Clock) -> int:
    """Does one step of one saga of this kind that is due; 0 if none is."""
    async with database.begin_for_all() as tx:
        saga = await take_saga(tx, kind)
    if saga is None:
        return 0
    with acting_as(service_principal(database.name, saga.org_id, on_behalf_of=saga.actor)):
        try:
            await _do_step(saga, database, peers, clock)
        except Overtaken:
            log.warning("saga_overtaken", saga_id=saga.saga_id, kind=kind.value, epoch=saga.epoch)
        except DomainError as unknown:
            await _postpone(saga, database, unknown)
    return 1


async def _do_step(saga: Saga, database: Database, peers: Peers, clock: Clock) -> None:
    if saga.step is SagaStep.RELEASE_SUBSCRIPTIONS:
        await _release_subscriptions(saga, database, peers, clock)
    elif saga.step is SagaStep.DECLARE_DISTRIBUTION:
        await _declare_distribution(saga, database, peers, clock)
    else:
        await request_payouts(saga, database, peers.transactions, clock)


async def _postpone(saga: Saga, database: Database, error: DomainError) -> None:
    log.warning("saga_postponed", saga_id=saga.saga_id, step=saga.step.value, tries=saga.tries, reason=error.reason)
    async with database.begin() as tx:
        await postpone_saga(tx, saga, f"{error.reason}: {error.message}")


async def _release_subscriptions(saga: Saga, database: Database, peers: Peers, clock: Clock) -> None:
    async with database.begin() as tx:
        request = await closings.build_release_request(tx, saga.subject_id)
    try:
        await peers.escrow.release_subscriptions(request)
    except DomainError as refusal:
        if refusal.kind.transient:
            raise
        await closings.record_refused_release(database, saga, refusal, clock.now())
    else:
        await closings.record_release(database, saga, clock.now())


async def _declare_distribution(saga: Saga, database: Database, peers: Peers, clock: Clock) -> None:
    async with database.begin() as tx:
        request = await executions.build_declare_request(tx, saga.subject_id)
    try:
        await peers.escrow.declare_distribution(request)
    except DomainError as refusal:
        if refusal.kind.transient:
            raise
        await executions.record_refused_declaration(database, saga, refusal, clock.now())
    else:
        await executions.record_declaration(database, saga, clock.now())
