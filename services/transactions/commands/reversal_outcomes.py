"""What becomes of the debit by which a payout is taken back, however that became known: a look, or a file of its bank.

The caller holds the transaction's lock. The book follows the transaction, once: it comes back as a payout that its bank
sent back. Where the bank does more or less than that, a person is told what to book.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from services.chassis.data.transaction import Tx
from services.chassis.values.failure import Failure
from services.chassis.values.moves import check_move
from services.transactions.commands.exceptions import describe_transaction
from services.transactions.dependencies import ACTOR
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import Payment, PaymentStatus, ReversingPayment
from services.transactions.domain.reversal_rules import build_debit_failure, build_payout_failure, spell_cause
from services.transactions.domain.reversals import REVERSAL_MOVES, Reversal, ReversalStatus, find_next
from services.transactions.domain.schedule import compute_return_risk_end
from services.transactions.domain.states import ARRIVED, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.store import moves
from services.transactions.store.exception_reports import report


async def follow_reversal(
    tx: Tx, row: Transaction, payment: Payment, now: datetime, looked_at: datetime | None = None
) -> Transaction:
    """Brings the reversal of a locked payout to where its provider has it; the same where nothing is new.

    Args:
        looked_at: When the provider was asked, where it was: by then the debit has been there, or has not.
    """
    before, said = row.reversal, payment.reversal
    if before is None:
        return row
    status = find_next(
        before.status,
        None if said is None else said.status,
        has_come_back=payment.status is PaymentStatus.RETURNED,
        is_over=looked_at is not None and before.risk_end_at is not None and looked_at >= before.risk_end_at,
    )
    return row if status is before.status else await _record(tx, row, _build_after(row, before, status, said, now), now)


async def fail_reversal(tx: Tx, row: Transaction, failure: Failure, now: datetime) -> None:
    """The debit is not drawn, and never will be."""
    if row.reversal is not None and row.reversal.is_under_way:
        ended = replace(row.reversal, status=ReversalStatus.FAILED, ended_at=now, failure=failure)
        await _record(tx, row, ended, now)


def _build_after(
    row: Transaction, before: Reversal, status: ReversalStatus, said: ReversingPayment | None, now: datetime
) -> Reversal:
    after = replace(before, status=status)
    if status is ReversalStatus.SETTLED:
        # The world's time of the fact; a provider's clock is not believed where it is absurd.
        at = max(before.ordered_at, min(now, (said.changed_at if said is not None else None) or now))
        return replace(after, settled_at=at, risk_end_at=compute_return_risk_end(at, row.rail, is_inbound=True))
    if said is not None and said.status is not PaymentStatus.SETTLED:
        after = replace(after, failure=build_debit_failure(said))
    return replace(after, ended_at=now)


async def _record(tx: Tx, row: Transaction, after: Reversal, now: datetime) -> Transaction:
    """Raises: IllegalStatusChange: no reversal goes there."""
    before = row.reversal
    assert before is not None
    check_move(REVERSAL_MOVES, before.status, after.status)
    if after.status is ReversalStatus.COMPLETED:
        failure = build_payout_failure(row, after)
        return await moves.save_move(
            tx, row, Status.RETURNED, actor=ACTOR, now=now, note=failure.message, failure=failure, reversal=after
        )
    # What has come back is looked at for its reversal alone.
    is_done = not after.is_under_way and row.status not in ARRIVED
    changes: dict[str, Any] = {"next_look_at": None} if is_done else {}
    row = await moves.save_reversal(tx, row, after, actor=ACTOR, now=now, **changes)
    if cause := spell_cause(row, before.status, after):
        about = describe_transaction(row, row.provider_reference)
        report(tx, ExceptionKind.PAYOUT_NOT_REVERSED, about, cause, now, reversal=after.status.value)
    return row
