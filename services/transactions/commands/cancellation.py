"""Cancels a transaction, as a person asks. What waits for its payer at a provider has ended there before.

A page on which a card is entered takes one until it is closed. So it is closed first, while no transaction is open, and
only what the provider says has ended without money is cancelled here. Whatever is not written after it, for the process
died or somebody was faster, the provider's webhook or the next look-up brings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.data.heard_persons import acts_for
from services.chassis.data.operations import note_told
from services.chassis.data.seals import NotSealed, build_withheld
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError, Unavailable
from services.chassis.values.invariant import require_present
from services.chassis.values.refusals import IllegalStatusChange
from services.chassis.values.text import quote
from services.transactions.actions import answer_transaction
from services.transactions.commands.approvals import TRANSACTION_APPROVALS
from services.transactions.commands.decisions import check_as_read, lock, lock_as_read
from services.transactions.commands.settlement import find_objection
from services.transactions.dependencies import Dependencies
from services.transactions.domain.decisions import check_may_cancel
from services.transactions.domain.payments import ENDED_WITHOUT_MONEY, Payment
from services.transactions.domain.states import ENDED, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.store import moves
from services.transactions.store import transactions as store
from services.transactions.store.moves import Step

# What a person does who cancels what others want (`note_stop`).
_CANCELS: Final = "CANCEL_TRANSACTION"


async def ask_to_end(dependencies: Dependencies, request: pb.CancelTransactionRequest) -> str | None:
    """Has what waits for its payer ended at its provider, once the caller may cancel it.

    Returns: The provider's id of what has ended; None where no provider has anything.

    Raises:
        TransactionNotFound, EtagMismatch, IllegalStatusChange, TooManyStops
        Unavailable: the provider does not say that it has ended.
    """
    database = dependencies.database
    row = check_as_read(await store.find_transaction(database.reader, request.transaction_id), request.etag)
    if not row.is_at_provider:
        return None
    check_may_cancel(row, current_principal().person)
    async with database.begin_rehearsal() if request.validate_only else database.begin() as tx:
        # First, once, however often it is asked for: what has ended there does not begin again.
        await _note_stop(tx, row, dependencies.clock.now())
    return await end_at_provider(dependencies, row, validate_only=request.validate_only)


async def end_at_provider(dependencies: Dependencies, row: Transaction, *, validate_only: bool) -> str:
    """The provider's id of what nobody pays any more.

    Args:
        validate_only: It is not ended, and what could be ended counts as such.

    Raises:
        IllegalStatusChange: it was paid meanwhile.
        Unavailable: nobody knows; it goes on, or has ended and is cancelled by that.
    """
    payment = await (ask_for_payment if validate_only else end_payment)(dependencies, row)
    if payment is None:
        raise Unavailable("The payment provider does not say how the payment stands: ask again.")
    if objection := find_objection(row, payment, dependencies.clock.now()):
        message = f"Staff has to look at it at the provider: {objection}."
        raise IllegalStatusChange(row.status, Status.CANCELLED, message)
    is_open = bool(payment.payer_action_url)
    if is_open and not validate_only:
        raise Unavailable("The payment provider does not say that its page is closed: ask again.")
    if not is_open and payment.status not in ENDED_WITHOUT_MONEY:
        message = "It was paid at the provider meanwhile, and goes on."
        raise IllegalStatusChange(row.status, Status.CANCELLED, message)
    return payment.payment_id


async def cancel_transaction(
    tx: Tx, request: pb.CancelTransactionRequest, ended: str | None, now: datetime
) -> pb.Transaction:
    """Ends what no provider has, or has any more; a cancelled one stays as it is.

    Args:
        ended: The provider's id of what has ended there for this request. That may have moved the transaction, so its
            version was compared before.

    Raises: EtagMismatch, IllegalStatusChange, TooManyStops, Unavailable.
    """
    if ended is None:
        row, person = await lock_as_read(tx, request.transaction_id, request.etag)
    else:
        row, person = await lock(tx, request.transaction_id)
    if has_to_be_cancelled(row, ended):
        await _note_stop(tx, row, now)
        await TRANSACTION_APPROVALS.cancel(tx, row.transaction_id, now)
        [row] = await moves.save_steps(tx, [row], build_cancellation(request), actor=person, now=now)
    return answer_transaction(row, now)


def has_to_be_cancelled(row: Transaction, ended: str | None) -> bool:
    """False where it is over already: it was cancelled, or the provider told us first what has ended there.

    Raises:
        IllegalStatusChange
        Unavailable: a provider has taken it since it was looked at.
    """
    if row.status is Status.CANCELLED or (ended is not None and row.status in ENDED):
        return False
    check_may_cancel(row, current_principal().person)
    if row.is_at_provider and row.provider_reference != ended:
        raise Unavailable("A provider has taken it just now: ask again.")
    return True


async def _note_stop(tx: Tx, row: Transaction, now: datetime) -> None:
    """Raises: TooManyStops."""
    for refusal in (await note_stops(tx, [row], now)).values():
        raise refusal


async def note_stops(tx: Tx, rows: Sequence[Transaction], now: datetime) -> dict[str, DomainError]:
    """Counts what stops others, each transaction once, however often it takes until it is cancelled.

    Party by party, so that no two wait for each other. Returns: why some may not, by the id of the transaction.
    """
    refusals: dict[str, DomainError] = {}
    by_party: dict[str, list[Transaction]] = defaultdict(list)
    for row in rows:
        if not _is_own(row):
            by_party[row.party_id].append(row)
    for party_id, others in sorted(by_party.items()):
        if await acts_for(tx, party_id):
            continue
        for row in others:
            try:
                await note_stop(tx, _CANCELS, party_id, now, stopped_id=row.transaction_id)
            except NotSealed as error:
                refusals[row.transaction_id] = build_withheld(error)
            except DomainError as refusal:
                refusals[row.transaction_id] = refusal
    return refusals


def _is_own(row: Transaction) -> bool:
    """Whether the caller made it, and nobody else's money is stopped with it."""
    return row.is_inbound and row.created_by == current_principal().person


def build_cancellation(request: pb.CancelTransactionRequest) -> Step:
    note = f"cancelled: {quote(request.note)}" if request.note else "cancelled"
    return Step(Status.CANCELLED, note, changes={"next_attempt_at": None, "failure": None})


async def end_payment(dependencies: Dependencies, row: Transaction) -> Payment | None:
    """Has what waits for its payer ended at its provider; how it stands then, as `ask_for_payment`."""
    cancellations = dependencies.providers.cancellations.get(row.provider)
    try:
        if cancellations is not None:
            note_told()
            await cancellations.cancel_payment(_require_reference(row))
    except OutcomeUnknown as error:
        log.warning("outcome_unknown", transaction_id=row.transaction_id, cause=str(error))
    return await ask_for_payment(dependencies, row)


async def ask_for_payment(dependencies: Dependencies, row: Transaction) -> Payment | None:
    """The payment as its provider has it; None where that has none, or does not say, which is in the log."""
    try:
        payment = await dependencies.providers.require_look_ups(row.provider).get_payment(_require_reference(row))
        cause = "the provider has no such payment"
    except OutcomeUnknown as error:
        payment, cause = None, str(error)
    if payment is None:
        log.warning("outcome_unknown", transaction_id=row.transaction_id, cause=cause)
    return payment


def _require_reference(row: Transaction) -> str:
    return require_present(row.provider_reference, "the provider took it, else nobody would look for it")
