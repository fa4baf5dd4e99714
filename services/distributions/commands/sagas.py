"""The steps that reach other services: intent committed before, the call with a key made from it, the outcome after.

A definite refusal ends a step as the business says. An unknown outcome repeats it under the same key, later and
later, for ever. Whoever dies in between leaves the saga to the next worker, who asks again and gets the first answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from realco.transactions.v1 import transactions_pb2 as transactions
from realco.type.v1 import money_pb2

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database import Database
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock
from services.chassis.values.errors import DomainError
from services.distributions.clients import Peers, PeerUnavailable
from services.distributions.commands import closings, executions, payouts
from services.distributions.store import payouts as payouts_store
from services.distributions.store import rows, sagas
from services.distributions.tables import distributions, offerings


async def advance_one(kind: str, database: Database, peers: Peers, clock: Clock) -> int:
    """Does one step of one saga of this kind that is due; 0 if none is."""
    async with database.begin("*") as tx:
        saga = await sagas.claim(tx, kind, clock.now())
    if saga is None:
        return 0
    with acting_as(service_principal(database.name, saga.org_id, on_behalf_of=saga.actor)):
        try:
            await _step(saga, database, peers, clock)
        except sagas.Overtaken:
            log.warning("saga_overtaken", saga_id=saga.saga_id, kind=kind, epoch=saga.epoch)
        except DomainError as unknown:
            await _postpone(saga, database, unknown, clock.now())
    return 1


async def _step(saga: rows.Row, database: Database, peers: Peers, clock: Clock) -> None:
    if saga.step == "RELEASE":
        await _release(saga, database, peers, clock)
    elif saga.step == "DECLARE":
        await _declare(saga, database, peers, clock)
    else:
        await _pay(saga, database, peers, clock)


async def _postpone(saga: rows.Row, database: Database, error: DomainError, now: datetime) -> None:
    log.warning("saga_postponed", saga_id=saga.saga_id, step=saga.step, attempts=saga.attempts, reason=error.reason)
    async with database.begin() as tx:
        await sagas.postpone(tx, saga, f"{error.reason}: {error.message}", now)


async def _release(saga: rows.Row, database: Database, peers: Peers, clock: Clock) -> None:
    async with database.begin() as tx:
        request = await closings.release_request(tx, saga.subject_id)
    try:
        await peers.escrow.release_subscriptions(request)
    except DomainError as refusal:
        if refusal.kind.transient:
            raise
        await closings.release_refused(database, saga, refusal, clock.now())
    else:
        await closings.released(database, saga, clock.now())


async def _declare(saga: rows.Row, database: Database, peers: Peers, clock: Clock) -> None:
    async with database.begin() as tx:
        request = await executions.declare_request(tx, saga.subject_id)
    try:
        await peers.escrow.declare_distribution(request)
    except DomainError as refusal:
        if refusal.kind.transient:
            raise
        await executions.declaration_refused(database, saga, refusal, clock.now())
    else:
        await executions.declared(database, saga, clock.now())


async def _pay(saga: rows.Row, database: Database, peers: Peers, clock: Clock) -> None:
    """Asks for the next batch of payouts; the saga is done when there is none left to ask for."""
    async with database.begin() as tx:
        requested = await payouts_store.requested(tx, saga.saga_id)
    created: dict[str, str] = {}
    refused: dict[str, str] = {}
    if requested:
        request = transactions.BatchCreatePayoutsRequest(items=[_item(row) for row in requested])
        try:
            answer = await peers.transactions.batch_create_payouts(request)
        except DomainError as refusal:
            if refusal.kind.transient:
                raise
            refused = {row.request_key: f"{refusal.reason}: {refusal.message}" for row in requested}
        else:
            for result in answer.results:
                if result.HasField("transaction"):
                    created[result.idempotency_key] = result.transaction.transaction_id
                elif result.HasField("refusal"):
                    refused[result.idempotency_key] = f"{result.refusal.code}: {result.refusal.message}"
            if len(created) + len(refused) != len(requested):
                raise PeerUnavailable("Not every payout was answered.")
    await _record(saga, database, requested, created, refused, clock.now())


async def _record(
    saga: rows.Row,
    database: Database,
    requested: Sequence[rows.Row],
    created: dict[str, str],
    refused: dict[str, str],
    now: datetime,
) -> None:
    async with database.begin() as tx:
        await sagas.record(tx, saga, "PAY" if requested else "DONE", now)
        if not requested:
            return
        first = requested[0]
        if first.distribution_id is not None:
            await rows.find(tx, distributions, first.distribution_id, lock=True)
        else:
            await rows.find(tx, offerings, first.offering_id, lock=True)
        await payouts_store.record_created(tx, created, now)
        for row in requested:
            if row.request_key in refused:
                await payouts.refused(tx, row, refused[row.request_key], now)
            elif row.type == "ESCROW_WITHDRAWAL" and row.request_key in created:
                await rows.save(
                    tx,
                    offerings,
                    row.offering_id,
                    proceeds_transaction_id=created[row.request_key],
                    updated_at=now,
                )


def _item(row: rows.Row) -> transactions.BatchCreatePayoutsRequest.Item:
    return transactions.BatchCreatePayoutsRequest.Item(
        idempotency_key=row.request_key,
        type=row.type,
        amount=money_pb2.Money(currency_code=row.currency, amount_minor=row.amount_minor),
        escrow_account_id=row.escrow_account_id,
        party_id=row.party_id,
        bank_account_id=row.bank_account_id,
        investment_id=row.investment_id or "",
        distribution_id=row.distribution_id or "",
        allocation_id=row.allocation_id or "",
        description=_DESCRIPTIONS[row.type],
    )


_DESCRIPTIONS = {
    "DISTRIBUTION": "Distribution",
    "ESCROW_WITHDRAWAL": "Proceeds of the offering",
    "REFUND": "Refund of a contribution",
}
