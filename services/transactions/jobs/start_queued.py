"""QUEUED -> PROCESSING: the attempt is counted and its key fixed before anybody outside is asked.

Days may have passed since compliance decided, so each attempt asks again whether the party is cleared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.transactions.dependencies import ACTOR, NAME, Dependencies
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import DEBITS
from services.transactions.jobs.batches import BATCH_MAX, group_by_organization, take_due
from services.transactions.jobs.obstacles import end_hopeless, hold_back
from services.transactions.store import provider_payments
from services.transactions.store import transactions as store
from services.transactions.tables import transactions

_QUEUED = store.build_taking(Status.QUEUED, count_max=BATCH_MAX)


async def start_queued(dependencies: Dependencies) -> int:
    taken = await take_due(dependencies, _QUEUED)
    for org_id, rows in group_by_organization(taken).items():
        with acting_as(service_principal(NAME, org_id)):
            await _start_rows(dependencies, rows)
    return len(taken)


async def _start_rows(dependencies: Dependencies, rows: Sequence[Transaction]) -> None:
    uncleared: Mapping[str, str] | None
    try:
        uncleared = await _list_uncleared(dependencies, {row.party_id for row in rows})
    except DomainError as error:
        log.warning("compliance_away", transactions=len(rows), reason=error.reason)
        uncleared = None
    async with dependencies.database.begin() as tx:
        current = await store.lock_taken_transactions(tx, rows)
        if uncleared is None:
            for row in current:
                await store.postpone_transaction(tx, row)
        elif current:
            await _begin_attempts(tx, dependencies, current, uncleared)
    dependencies.work_waiting.set()


async def _list_uncleared(dependencies: Dependencies, party_ids: Collection[str]) -> dict[str, str]:
    """Those of the parties for whom no money may move just now, each with what is missing, in words."""
    uncleared = [
        each for each in await dependencies.peers.compliance.batch_get_clearances(party_ids) if not each.cleared
    ]
    return {each.party_id: "; ".join(missing.statement for missing in each.missing) for each in uncleared}


async def _begin_attempts(
    tx: AsyncConnection, dependencies: Dependencies, rows: Sequence[Transaction], uncleared: Mapping[str, str]
) -> None:
    t, now = transactions.c, dependencies.clock.now()
    possible = await end_hopeless(tx, rows, now, uncleared)
    started = await store.save_moves(
        tx,
        await hold_back(tx, possible, now) if possible else [],
        Status.PROCESSING,
        actor=ACTOR,
        now=now,
        due_ms=0,
        attempts=t.attempts + 1,
        presentments=t.presentments + sa.case((t.type.in_(DEBITS), 1), else_=0),
        first_presented_at=sa.func.coalesce(t.first_presented_at, now),
        provider_reference=None,
        escrow_booked=False,
    )
    await provider_payments.insert_attempts(tx, started, now)
