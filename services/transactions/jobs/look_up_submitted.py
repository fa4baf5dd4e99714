"""Looks up payments that are on their way: a webhook that was lost costs time, and nothing else."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.seals import NotSealed
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.transactions.commands.attempts import ask_about_attempts, find_account_refusal
from services.transactions.commands.cancellation import ask_for_payment, end_payment
from services.transactions.commands.settlement import PaymentNotOurs, follow_payment, report_not_ours
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.payments import Payment
from services.transactions.domain.refusals import build_altered
from services.transactions.domain.schedule import compute_poll_ms
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.jobs.batches import CALLS_MAX, record_each
from services.transactions.store import transactions as store

SUBMITTED = store.build_taking(Status.PENDING_SETTLEMENT, count_max=CALLS_MAX)


async def look_up_submitted(dependencies: Dependencies) -> int:
    taken = await store.take_transactions(dependencies.database, SUBMITTED)
    await record_each(dependencies, taken, partial(_ask_or_end, dependencies), partial(_record, dependencies))
    return len(taken)


async def _ask_or_end(dependencies: Dependencies, taken: Transaction) -> Payment | None:
    """As ask_for_payment; what waits for its payer and is not wanted any more is cancelled at the provider first."""
    payment = await ask_for_payment(dependencies, taken)
    if payment is None or not payment.payer_action_url:
        return payment
    with acting_as(service_principal(NAME, taken.org_id)):
        refusal = await _find_refusal(dependencies, taken)
    if refusal is None:
        return payment
    log.info("payment_not_wanted", transaction_id=taken.transaction_id, reason=refusal.reason)
    return await end_payment(dependencies, taken)


async def _find_refusal(dependencies: Dependencies, row: Transaction) -> DomainError | None:
    """Why it would not be ordered now, if so: what held when it was ordered may not hold any more.

    What would only wait, for nobody answers or its escrow account is frozen, goes on waiting for its payer.
    """
    refusals, waiting = await ask_about_attempts(dependencies, [row], dependencies.clock.now())
    if row.transaction_id in waiting:
        return None
    if row.transaction_id in refusals:
        return refusals[row.transaction_id]
    if row.bank_account_id is None:  # of a card
        return None
    source, account_id = dependencies.database.reader, row.bank_account_id
    try:
        return await find_account_refusal(source, account_id, row.party_id, is_inbound=row.is_inbound)
    except NotSealed:  # in the log by now; what was drawn from it would come back
        return build_altered()


async def _record(dependencies: Dependencies, tx: Tx, row: Transaction, payment: Payment | None) -> None:
    moved = await follow_answer(tx, row, payment, dependencies.clock.now())
    if moved is None or moved.status is row.status:
        await store.schedule_transaction(tx, row, compute_poll_ms(row.tries))


async def follow_answer(tx: Tx, row: Transaction, payment: Payment | None, now: datetime) -> Transaction | None:
    """The transaction where the provider has its payment; None where it did not say, or what cannot be."""
    if payment is None:
        return None
    try:
        return await follow_payment(tx, row, payment, now)
    except PaymentNotOurs as error:
        await report_not_ours(tx, row, payment, error, now)
        return None
