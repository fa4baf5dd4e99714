"""SETTLED -> COMPLETED when the return risk is over, and FINAL when the bank can no longer send the money back.

Neither happens by time alone: once it is over, the provider is asked whether the money is still there, and until it
says so nothing changes. In between it is asked ever more rarely, so a return whose webhook was lost is found.

When a payment is next looked at is counted from the provider's last answer, and sealed. Who writes `due_at` keeps it
from being looked at, and so from becoming FINAL, which is told as any work that is not done (`LOOK_DUE`). What no
provider can be asked about, since a person confirmed it, goes by time.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import NamedTuple

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.transactions.commands.cancellation import ask_for_payment
from services.transactions.commands.reversal_outcomes import follow_reversal
from services.transactions.commands.reversals import order_reversal
from services.transactions.dependencies import ACTOR, NAME, Dependencies
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.domain.schedule import compute_next_look
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import FINAL, Transaction
from services.transactions.jobs.batches import CALLS_MAX, record_each
from services.transactions.jobs.look_up_submitted import follow_answer
from services.transactions.store import moves
from services.transactions.store import transactions as store

WATCHED = store.build_looking(count_max=CALLS_MAX)


async def watch_settled(dependencies: Dependencies) -> int:
    taken = await store.take_transactions(dependencies.database, WATCHED, now=dependencies.clock.now())
    await record_each(dependencies, taken, partial(_look_at_payment, dependencies), partial(_record, dependencies))
    return len(taken)


class _Look(NamedTuple):
    """What a provider said of a payment; nothing where nobody can be asked.

    Args:
        at: Before it was asked: what it says may be as old as that.
    """

    payment: Payment | None
    at: datetime


async def _look_at_payment(dependencies: Dependencies, taken: Transaction) -> _Look:
    at = dependencies.clock.now()
    if taken.is_being_reversed:
        with acting_as(service_principal(NAME, taken.org_id)):
            await order_reversal(dependencies, taken)
    return _Look(None if taken.rail.is_confirmed_by_a_person else await ask_for_payment(dependencies, taken), at)


async def _record(dependencies: Dependencies, tx: Tx, row: Transaction, look: _Look) -> None:
    now, payment, by_hand = dependencies.clock.now(), look.payment, row.rail.is_confirmed_by_a_person
    moved = await follow_answer(tx, row, payment, now)
    if moved is row and payment is not None and row.is_being_reversed:
        await _record_look_at_reversal(tx, row, payment, look.at, now)
    elif by_hand or (moved is row and payment is not None and payment.status is PaymentStatus.SETTLED):
        await _record_look(tx, row, look.at, now)
    elif moved is None or moved is row:
        if moved is not None and payment is not None:  # it says less than it did
            log.warning("outcome_unknown", transaction_id=row.transaction_id, cause=f"it is {payment.status}")
        await store.postpone_transaction(tx, row)


async def _record_look_at_reversal(
    tx: Tx, row: Transaction, payment: Payment, looked_at: datetime, now: datetime
) -> None:
    """The debit that takes a payout back waits, or was still there at that time: then it counts once it is over."""
    assert row.reversal is not None
    assert row.final_at is not None  # it arrived
    if await follow_reversal(tx, row, payment, now, looked_at) is row:
        ordered_at, risk_end_at = row.reversal.ordered_at, row.reversal.risk_end_at
        await moves.save_look(tx, row, compute_next_look(looked_at, row.rail, ordered_at, risk_end_at, row.final_at))


async def _record_look(tx: Tx, row: Transaction, looked_at: datetime, now: datetime) -> None:
    """The money was still there at that time."""
    assert row.settled_at is not None  # it arrived
    assert row.final_at is not None
    is_final = looked_at >= row.final_at
    next_look_at = compute_next_look(looked_at, row.rail, row.settled_at, row.return_risk_end_at, row.final_at)
    if row.is_disputed:  # it may yet be lost, however much later
        await moves.save_look(tx, row, next_look_at)
    elif row.status is Status.SETTLED and (row.return_risk_end_at is None or looked_at >= row.return_risk_end_at):
        note = "the return risk is over"
        left = {"finality": FINAL} if is_final else {"due_ms": 0, "next_look_at": next_look_at}
        await moves.save_move(tx, row, Status.COMPLETED, actor=ACTOR, now=now, note=note, **left)
    elif is_final:
        await moves.save_final(tx, row, actor=ACTOR, now=now)
    else:
        await moves.save_look(tx, row, next_look_at)
