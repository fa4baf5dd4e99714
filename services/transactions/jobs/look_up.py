"""Looks payments up at their providers: a webhook that was lost costs time, and nothing else."""

from __future__ import annotations

from functools import partial

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.leases import Taking
from services.chassis.process.telemetry import log
from services.transactions.commands.settlement import PaymentNotOurs, follow_payment
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.schedule import compute_poll_ms, compute_watch_ms
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.jobs.batches import CALLS_MAX, do_each, take_due
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.store import transactions as store

SUBMITTED, *SETTLED = (
    store.build_taking(status, count_max=CALLS_MAX)
    for status in (Status.PENDING_SETTLEMENT, Status.SETTLED, Status.COMPLETED)
)


async def look_up_submitted(dependencies: Dependencies) -> int:
    """Payments that are on their way."""
    return await _look_up(dependencies, SUBMITTED)


async def look_up_settled(dependencies: Dependencies) -> int:
    """Payments that arrived, and that the bank may still take back."""
    return sum([await _look_up(dependencies, taking) for taking in SETTLED])


async def _look_up(dependencies: Dependencies, taking: Taking) -> int:
    taken = await take_due(dependencies, taking)
    await do_each(taken, partial(_look_up_row, dependencies))
    return len(taken)


async def _look_up_row(dependencies: Dependencies, taken: Transaction) -> None:
    assert taken.provider_reference is not None  # the provider took it, else nobody would look for it
    try:
        payment = await dependencies.providers.look_ups[taken.provider].get_payment(taken.provider_reference)
    except OutcomeUnknown as error:
        log.warning("outcome_unknown", transaction_id=taken.transaction_id, cause=str(error))
        payment = None
    with acting_as(service_principal(NAME, taken.org_id, taken.created_by)):
        async with dependencies.database.begin() as tx:
            row = await store.lock_taken_transaction(tx, taken)
            if row is None:
                return
            now = dependencies.clock.now()
            try:
                moved = row if payment is None else await follow_payment(tx, row, payment, now)
            except PaymentNotOurs as error:
                log.error("payment_not_ours", transaction_id=row.transaction_id, cause=str(error))
                moved = row
            if moved.status is row.status:
                wait_ms = compute_poll_ms if row.status is Status.PENDING_SETTLEMENT else compute_watch_ms
                await store.schedule_transaction(tx, row, None if row.is_final else wait_ms(row.tries))
