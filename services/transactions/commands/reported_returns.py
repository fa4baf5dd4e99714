"""A wire or check came back, had never come, or was not sent: two persons say so, for nobody can be asked."""

from __future__ import annotations

from datetime import datetime

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.data.transaction import Tx
from services.chassis.values.failure import Failure
from services.chassis.values.text import quote
from services.transactions.actions import answer_transaction
from services.transactions.commands.decisions import lock_as_read, require_as_read
from services.transactions.commands.inflow import check_book_goes_on
from services.transactions.dependencies import Dependencies
from services.transactions.domain.refusals import BankReferenceUsed
from services.transactions.domain.reported_returns import (
    RETURN_KINDS,
    ReturnKind,
    build_reported_failure,
    check_may_record_return,
)
from services.transactions.domain.transaction import Transaction
from services.transactions.store import moves
from services.transactions.store.transactions import find_user_of_reference


async def check_return_is_booked(dependencies: Dependencies, request: pb.RecordTransactionReturnRequest) -> None:
    """Raises: Unavailable, TransactionNotFound, EtagMismatch, EscrowAccountClosed: no book takes it."""
    async with dependencies.database.begin() as tx:
        row = await require_as_read(tx, request.transaction_id, request.etag)
    await check_book_goes_on(dependencies.peers, row)


def read_failure(row: Transaction, request: pb.RecordTransactionReturnRequest) -> Failure:
    """Raises: PaymentMethodNotSupported, IllegalStatusChange, InvalidField."""
    check_may_record_return(row)
    return build_reported_failure(row, find_kind(request), request.bank_reference)


def find_kind(request: pb.RecordTransactionReturnRequest) -> ReturnKind:
    return RETURN_KINDS[pb.Transaction.ReturnKind.Name(request.kind)]


async def record_transaction_return(
    tx: Tx, request: pb.RecordTransactionReturnRequest, _: None, now: datetime
) -> pb.Transaction:
    """SETTLED or COMPLETED -> RETURNED, as what a provider says came back; PENDING_SETTLEMENT -> FAILED.

    Raises: EtagMismatch, TransactionNotFound, PaymentMethodNotSupported, IllegalStatusChange, InvalidField,
    BankReferenceUsed.
    """
    row, person = await lock_as_read(tx, request.transaction_id, request.etag)
    failure = read_failure(row, request)
    if request.bank_reference:
        or_itself = not find_kind(request).keeps_reference
        user = await find_user_of_reference(tx, row, request.bank_reference, or_itself=or_itself)
        if user is not None:
            raise BankReferenceUsed(user)
    note = f"{failure.message} {quote(request.note)}"
    to = find_kind(request).to
    row = await moves.save_move(tx, row, to, actor=person, now=now, note=note, failure=failure)
    return answer_transaction(row, now)
