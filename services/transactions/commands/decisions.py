"""What people decide about a transaction: approve, reject, cancel, confirm, try again."""

from __future__ import annotations

from datetime import datetime

from realco.transactions.v1 import transactions_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.values.errors import DomainError
from services.transactions import messages
from services.transactions.commands import creation
from services.transactions.commands.creation import PeersSay
from services.transactions.domain import schedule
from services.transactions.domain.errors import (
    BankAccountNotUsable,
    IllegalStatusChange,
    PaymentMethodNotSupported,
    TransactionNotFound,
)
from services.transactions.domain.states import Status, may_cancel
from services.transactions.domain.transaction import Transaction, check_checker, check_retry
from services.transactions.store import bank_accounts
from services.transactions.store import transactions as store
from services.transactions.wiring import Parts


async def approve(tx: AsyncConnection, request: pb.ApproveTransactionRequest, now: datetime) -> pb.Transaction:
    """PENDING_APPROVAL -> APPROVED -> QUEUED. Raises MakerIsChecker, IllegalStatusChange."""
    row, person = await _lock(tx, request.transaction_id)
    check_checker(row, person)
    if row.status is not Status.PENDING_APPROVAL:
        raise IllegalStatusChange(row.status, Status.APPROVED)
    row = await store.move(tx, row, Status.APPROVED, actor=person, now=now, reason="approved", approved_by=person)
    row = await store.move(tx, row, Status.QUEUED, actor=person, now=now, due_ms=0)
    return messages.to_transaction(row, now)


async def reject(tx: AsyncConnection, request: pb.RejectTransactionRequest, now: datetime) -> pb.Transaction:
    """PENDING_APPROVAL -> CANCELLED. Raises IllegalStatusChange."""
    row, person = await _lock(tx, request.transaction_id)
    if row.status not in (Status.PENDING_APPROVAL, Status.CANCELLED):
        raise IllegalStatusChange(row.status, Status.CANCELLED)
    row = await store.move(tx, row, Status.CANCELLED, actor=person, now=now, reason=f"rejected: {request.reason}")
    return messages.to_transaction(row, now)


async def cancel(tx: AsyncConnection, request: pb.CancelTransactionRequest, now: datetime) -> pb.Transaction:
    """Ends what no provider has taken. Raises IllegalStatusChange."""
    row, person = await _lock(tx, request.transaction_id)
    cancelled = row.status is Status.CANCELLED
    if not cancelled and not may_cancel(row.status, provider_is_manual=row.provider == "manual"):
        raise IllegalStatusChange(row.status, Status.CANCELLED)
    reason = f"cancelled: {request.reason}" if request.reason else "cancelled"
    changes = {} if cancelled else {"next_attempt_at": None, "failure": None}
    row = await store.move(tx, row, Status.CANCELLED, actor=person, now=now, reason=reason, **changes)
    return messages.to_transaction(row, now)


async def confirm(tx: AsyncConnection, request: pb.ConfirmTransactionRequest, now: datetime) -> pb.Transaction:
    """A wire or check arrived: SETTLED; a wire, which nobody can take back, COMPLETED.

    Raises:
        MakerIsChecker, PaymentMethodNotSupported, IllegalStatusChange
    """
    row, person = await _lock(tx, request.transaction_id)
    if row.provider != "manual":
        raise PaymentMethodNotSupported(
            "Only wires and checks are confirmed by a person.", payment_method=row.payment_method
        )
    check_checker(row, person)
    if row.status in (Status.SETTLED, Status.COMPLETED):
        return messages.to_transaction(row, now)
    is_wire = row.payment_method == "WIRE"
    row = await store.move(
        tx,
        row,
        Status.SETTLED,
        actor=person,
        now=now,
        reason=f"the bank confirms it: {request.bank_reference}",
        bank_reference=request.bank_reference,
        settled_at=now,
        return_risk_end_at=now if is_wire else schedule.return_risk_end(now),
        final_at=schedule.final_at(now, method=row.payment_method, is_debit=row.is_debit),
    )
    if is_wire:
        row = await store.move(tx, row, Status.COMPLETED, actor=person, now=now, reason="a wire is final")
    return messages.to_transaction(row, now)


async def ask_peers_again(parts: Parts, request: pb.RetryTransactionRequest) -> PeersSay:
    """Whether the money could still be received. Where the rules refuse the attempt nobody is asked: `retry` says so.

    Raises:
        Unavailable, NotFound, TransactionNotFound
    """
    async with parts.database.begin() as tx:
        row, _ = await _lock(tx, request.transaction_id)
    try:
        check_retry(row, parts.clock.now())
    except DomainError:
        return PeersSay(None)
    return await creation.ask_peers(creation.asked_again(row), row.party_id, parts.escrow, parts.distributions)


async def retry(
    tx: AsyncConnection, request: pb.RetryTransactionRequest, said: PeersSay, now: datetime
) -> pb.Transaction:
    """Another attempt, now, if its money could be received.

    Raises:
        NotRetryable, AttemptsExhausted, IllegalStatusChange, BankAccountNotUsable, EscrowAccountNotUsable,
        InvestmentNotUsable
    """
    row, person = await _lock(tx, request.transaction_id)
    check_retry(row, now)
    if said.refusal is not None:
        raise said.refusal
    if said.investment is not None and row.status is not Status.PENDING_RETRY:  # which has its room still
        await creation.check_room(tx, row.org_id, creation.asked_again(row), said.investment)
    account = await bank_accounts.get(tx, row.org_id, row.bank_account_id)
    if account is not None and account.status != "ACTIVE":
        raise BankAccountNotUsable(
            f"The bank account is {account.status}.", bank_account_id=row.bank_account_id, status=account.status
        )
    if row.status is not Status.PENDING_RETRY:
        row = await store.move(
            tx, row, Status.PENDING_RETRY, actor=person, now=now, reason="asked for", next_attempt_at=now
        )
    return messages.to_transaction(await queue_again(tx, row, actor=person, now=now), now)


async def queue_again(tx: AsyncConnection, row: Transaction, *, actor: str, now: datetime) -> Transaction:
    """PENDING_RETRY -> QUEUED: what the last attempt left behind is in the history, not in the row."""
    return await store.move(
        tx,
        row,
        Status.QUEUED,
        actor=actor,
        now=now,
        reason="the next attempt is due",
        due_ms=0,
        failure=None,
        next_attempt_at=None,
        settled_at=None,
        return_risk_end_at=None,
        final_at=None,
    )


async def _lock(tx: AsyncConnection, transaction_id: str) -> tuple[Transaction, str]:
    """The transaction, locked, and who asks. Raises TransactionNotFound for another party's."""
    principal = current_principal()
    row = await store.lock(tx, principal.org_id, transaction_id)
    if row is None or not principal.may_reach(row.party_id):
        raise TransactionNotFound("There is no such transaction.")
    return row, principal.person
