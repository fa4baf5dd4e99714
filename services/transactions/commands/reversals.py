"""A payout that was paid in error is taken back: two persons order it, and its provider is asked to.

Nothing is booked by that: what becomes of it is reversal_outcomes.py.
"""

from __future__ import annotations

from datetime import date, datetime

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_enum
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import Unavailable
from services.chassis.values.invariant import require_present
from services.transactions.actions import answer_transaction
from services.transactions.commands.decisions import lock_as_read, require_as_read
from services.transactions.commands.exceptions import describe_transaction, report_apart
from services.transactions.commands.inflow import check_book_goes_on
from services.transactions.dependencies import Dependencies
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.rails import PROVIDERS
from services.transactions.domain.reversal_rules import check_may_reverse, find_last_day
from services.transactions.domain.reversals import Reversal, ReversalReason, ReversalStatus
from services.transactions.domain.transaction import PROVISIONAL, Transaction
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.store import moves


async def ask_about_reversal(dependencies: Dependencies, request: pb.ReverseTransactionRequest) -> date:
    """When it would settle. Raises: Unavailable, TransactionNotFound, EtagMismatch, EscrowAccountClosed."""
    async with dependencies.database.begin() as tx:
        row = await require_as_read(tx, request.transaction_id, request.etag)
    await check_book_goes_on(dependencies.peers, row)
    return await get_reversal_day(dependencies, row)


async def get_reversal_day(dependencies: Dependencies, row: Transaction) -> date:
    """When a reversal that is ordered now settles. Raises: Unavailable."""
    if not PROVIDERS[row.provider].reverses_payouts:  # which the rule refuses
        return dependencies.clock.now().date()
    try:
        return await dependencies.providers.require_reversals(row.provider).get_reversal_day()
    except OutcomeUnknown:
        raise Unavailable("Who paid it is not set up here: nothing can be taken back.") from None


async def reverse_transaction(
    tx: Tx, request: pb.ReverseTransactionRequest, settles_on: date, now: datetime
) -> pb.Transaction:
    """It is being reversed; whatever it was, its end is looked for again.

    Raises:
        EtagMismatch, TransactionNotFound, TypeNotSupported, PaymentMethodNotSupported, IllegalStatusChange,
        ReversalTooLate
    """
    row, person = await lock_as_read(tx, request.transaction_id, request.etag)
    check_may_reverse(row, settles_on)
    makers = {*row.makers_and_checkers, person, *current_principal().makers_and_checkers}
    changes = {"finality": PROVISIONAL, "next_look_at": now, "makers_and_checkers": sorted(makers)}
    reversal = Reversal(reason=read_reason(request), ordered_at=now)
    row = await moves.save_reversal(tx, row, reversal, actor=person, now=now, **changes)
    return answer_transaction(row, now)


def read_reason(request: pb.ReverseTransactionRequest) -> ReversalReason:
    return ReversalReason(from_enum(pb.Transaction.Reversal.Reason, request.reason))


async def order_reversal(dependencies: Dependencies, row: Transaction) -> None:
    """Asks the provider of a payout for what two persons ordered, once however often. What it does not take is ordered
    again when the payout is looked at next.
    """
    if row.reversal is None or row.reversal.status is not ReversalStatus.ORDERED:
        return
    payment_id = require_present(row.provider_reference, "what has settled was taken by its provider")
    try:
        reversals = dependencies.providers.require_reversals(row.provider)
        await reversals.reverse_payment(payment_id, f"{row.provider_key}:reversal")
    except OutcomeUnknown as error:
        log.warning("outcome_unknown", transaction_id=row.transaction_id, cause=str(error))
        cause = f"Its debit is not ordered: {error}. It may settle until {find_last_day(row)}."
        about = describe_transaction(row, payment_id)
        await report_apart(dependencies, row.org_id, ExceptionKind.PAYOUT_NOT_REVERSED, about, cause)
