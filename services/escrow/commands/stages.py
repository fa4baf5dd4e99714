"""What the book does when a transaction moved: domain/stages.py says what is posted, this file reads and posts.

Each stage has a key of its own, `(transaction, attempt, stage)`, so it can never be booked twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from realco.transactions.v1 import transactions_pb2

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_enum, from_timestamp
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.ids import derived_id, new_id
from services.chassis.values.refusals import EscrowAccountFrozen, IllegalStatusChange
from services.escrow.commands import holds
from services.escrow.domain import refusals
from services.escrow.domain.account import Status
from services.escrow.domain.chart import LedgerAccount, LedgerAccountKind
from services.escrow.domain.holds import Hold, HoldStatus
from services.escrow.domain.journal import Layer, Leg, NewEntry, PostingKey, build_key
from services.escrow.domain.stages import (
    BookedPosition,
    Moving,
    Stage,
    asks_what_is_left,
    build_coming_and_going,
    build_legs,
    reversed_entry,
    target_of,
    type_of,
    unapplied_of,
)
from services.escrow.domain.types import TransactionType, require_type
from services.escrow.posting.booking import book_in
from services.escrow.posting.checks import check_entries, check_whole_book
from services.escrow.store import escrow_accounts, journal
from services.escrow.store.holds import check_holds_on, find_hold, list_holds_of_persons

_Transaction = transactions_pb2.Transaction
# In which nobody knows yet whose the money is in the end.
_OPEN = (_Transaction.NEEDS_RESPONSE, _Transaction.UNDER_REVIEW, _Transaction.MONEY_AWAITED)


async def book_stage(
    tx: Tx, stage: Stage, transaction: transactions_pb2.Transaction, occurred_at: datetime, now: datetime
) -> None:
    """Posts what a stage of the transaction makes of the book, and holds what the bank may still take back.

    A transfer is in two books, in one transaction: its money is in one of them at each moment, or on its way out of the
    one and into the other.
    """
    type_ = _type_of(transaction)
    if type_.arrives_as is None:
        await _book_stage(tx, stage, type_, transaction.escrow_account_id, transaction, occurred_at, now)
        return
    org_id, arriving = current_principal().org_id, transaction.to_escrow_account_id
    # As everywhere in the order of their keys: another transfer may go the other way.
    await journal.lock_accounts(tx.driver, sorted((org_id, each) for each in (transaction.escrow_account_id, arriving)))
    for kind, escrow_account_id in ((type_, transaction.escrow_account_id), (type_.arrives_as, arriving)):
        await _book_stage(tx, stage, kind, escrow_account_id, transaction, occurred_at, now)


async def _book_stage(
    tx: Tx,
    stage: Stage,
    type_: TransactionType,
    escrow_account_id: str,
    transaction: transactions_pb2.Transaction,
    occurred_at: datetime,
    now: datetime,
) -> None:
    """
    Args:
        type_: What the transaction is to this escrow account.
    """
    moving = Moving(type_, transaction.party_id, transaction.amount.amount_minor)
    account = await escrow_accounts.require_locked(tx, escrow_account_id)
    frozen = account.status is Status.FROZEN
    if stage is Stage.RETURNED:
        await end_return_risk(tx, transaction, now, when_frozen=True)
        await end_dispute(tx, transaction, now, when_frozen=True)
    booked = await journal.list_payment_entries(tx, escrow_account_id, transaction.transaction_id)
    # What somebody else says of it would pass for the stage, and the money would be in nobody's books.
    keys = {entry.rows[0]["request_key"] for entry in check_entries(tx, booked)}
    if _key_of(Stage.RETURNED, moving, transaction).key in keys:
        return  # it came back, so whatever else is heard of it is heard late
    position = BookedPosition(leg for entry in booked for leg in entry.legs)
    takeable = _Takeable({}, {})
    if asks_what_is_left(stage, moving):
        takeable = await _read_takeable(tx, escrow_account_id, moving, position)
    legs = build_legs(stage, moving, position, frozen=frozen, count_takeable=takeable.count)
    reverses = reversed_entry(stage, [(entry.journal_entry_id, entry.legs) for entry in booked]) if legs else None
    is_unheard_of = _key_of(Stage.SETTLED, moving, transaction).key not in keys
    if not legs and stage is Stage.RETURNED and moving.type.is_inbound and is_unheard_of:
        legs = build_coming_and_going(moving)
    if not legs:
        return
    await takeable.override_holds(tx, transaction.transaction_id, legs, now)
    entry = _build_entry(stage, moving, transaction, escrow_account_id, legs, reverses, min(occurred_at, now))
    await book_in(tx, [entry], now)
    _tell_of_debt(escrow_account_id, transaction, legs)
    if stage is Stage.SETTLED and moving.type.is_inbound and _is_at_risk(transaction):
        await holds.reserve_money(
            tx,
            escrow_account_id,
            target_of(moving, frozen=frozen),
            hold_id=_hold_id(transaction),
            amount_minor=moving.amount_minor,
            currency=transaction.amount.currency_code,
            reason="RETURN_RISK",
            transaction_id=transaction.transaction_id,
            now=now,
        )


@dataclass(frozen=True, slots=True)
class _Takeable:
    """What the bank can take of the ledger accounts that a transaction may touch.

    What the bank has done is booked as if no person held anything: whose money it is, no one person decides by a hold.
    """

    available: Mapping[LedgerAccount, int]
    holds: Mapping[LedgerAccount, Sequence[Hold]]  # of persons, in the order in which they are overridden

    def count(self, account: LedgerAccount) -> int:
        return self.available.get(account, 0) + sum(hold.amount_minor for hold in self.holds.get(account, ()))

    async def override_holds(self, tx: Tx, transaction_id: str, legs: Sequence[Leg], now: datetime) -> None:
        """Frees what the legs take and persons hold."""
        for leg in legs:
            found = self.holds.get(leg.ledger_account, ())
            if found and leg.layer is Layer.POSTED:
                missing_minor = leg.amount_minor - self.available[leg.ledger_account]
                await holds.override_holds(tx, found, missing_minor, transaction_id, now)


async def _read_takeable(tx: Tx, escrow_account_id: str, moving: Moving, position: BookedPosition) -> _Takeable:
    """Raises: NotSealed"""
    await check_whole_book(tx, escrow_account_id)
    accounts = [moving.target, *(account for account, _ in position.credited())]
    balances = await escrow_accounts.list_balances(tx, escrow_account_id, accounts)
    held = [each.ledger_account for each in balances if each.held_minor]
    await check_holds_on(tx, escrow_account_id, held)
    available = {each.ledger_account: each.available_minor for each in balances}
    return _Takeable(available, await list_holds_of_persons(tx, escrow_account_id, held) if held else {})


def _tell_of_debt(escrow_account_id: str, transaction: transactions_pb2.Transaction, legs: Sequence[Leg]) -> None:
    """Somebody has to get it back: nothing of this system does."""
    owed = LedgerAccountKind.RETURNS_RECEIVABLE
    amount_minor = sum(leg.amount_minor for leg in legs if leg.ledger_account.kind is owed)
    if amount_minor:
        log.warning(
            "money_owed_by_party",
            escrow_account_id=escrow_account_id,
            party_id=transaction.party_id,
            transaction_id=transaction.transaction_id,
            amount_minor=amount_minor,
            currency=transaction.amount.currency_code,
        )


def _is_at_risk(transaction: transactions_pb2.Transaction) -> bool:
    """Whether the bank may still take the money back: the transaction says until when, whatever the rail."""
    if not transaction.HasField("return_risk_end_time"):
        return False
    return from_timestamp(transaction.return_risk_end_time) > from_timestamp(transaction.settle_time)


def _build_entry(
    stage: Stage,
    moving: Moving,
    transaction: transactions_pb2.Transaction,
    escrow_account_id: str,
    legs: Sequence[Leg],
    reverses: str | None,
    effective_at: datetime,
) -> NewEntry:
    return NewEntry(
        org_id=current_principal().org_id,
        escrow_account_id=escrow_account_id,
        journal_entry_id=new_id("je"),
        key=_key_of(stage, moving, transaction),
        type=type_of(stage, moving),
        description=f"{moving.type.label} {stage.value}",
        legs=legs,
        created_by=current_principal().person,
        effective_at=effective_at,
        currency=transaction.amount.currency_code,
        transaction_id=transaction.transaction_id,
        investment_id=transaction.investment_id or None,
        distribution_id=transaction.distribution_id or None,
        reverses_journal_entry_id=reverses,
        is_of_rails=True,
    )


def _key_of(stage: Stage, moving: Moving, transaction: transactions_pb2.Transaction) -> PostingKey:
    # The body is the transaction's alone: the legs follow from the book as it is when the stage comes first.
    body = f"{moving.type.name} {moving.party_id} {moving.amount_minor}".encode()
    return build_key(moving.type.scope, transaction.transaction_id, _attempt(transaction), stage.value, body=body)


async def end_return_risk(
    tx: Tx, transaction: transactions_pb2.Transaction, now: datetime, *, when_frozen: bool = False
) -> None:
    """Releases the hold, if there is one. In a frozen account it ends by itself once that is unfrozen."""
    if _type_of(transaction).is_inbound:
        await _release(tx, transaction.escrow_account_id, _hold_id(transaction), now, when_frozen=when_frozen)


async def follow_dispute(tx: Tx, transaction: transactions_pb2.Transaction, now: datetime) -> None:
    """Holds what is there of money whose payment is disputed, until the dispute is over.

    While the money is at risk anyway, that hold stays, and is not ended by time.
    """
    if not _type_of(transaction).is_inbound or not transaction.HasField("dispute_reference"):
        return
    if transaction.dispute_status not in _OPEN:
        await end_dispute(tx, transaction, now)
    elif transaction.status == _Transaction.COMPLETED:
        await _hold_disputed(tx, transaction, now)


async def end_dispute(
    tx: Tx, transaction: transactions_pb2.Transaction, now: datetime, *, when_frozen: bool = False
) -> None:
    """Releases what is held for a dispute, if anything is."""
    if transaction.HasField("dispute_reference"):
        for hold_id in _list_dispute_holds(transaction):
            await _release(tx, transaction.escrow_account_id, hold_id, now, when_frozen=when_frozen)


async def _hold_disputed(tx: Tx, transaction: transactions_pb2.Transaction, now: datetime) -> None:
    """As much as is there: a closing may have taken it since, and then its party owes what is lost."""
    account_id, held_by = transaction.escrow_account_id, _list_dispute_holds(transaction)
    await escrow_accounts.require_locked(tx, account_id)
    moving = _moving_of(transaction)
    booked = await journal.list_payment_entries(tx, account_id, transaction.transaction_id)
    keys = {entry.rows[0]["request_key"] for entry in check_entries(tx, booked)}
    if _key_of(Stage.RETURNED, moving, transaction).key in keys:
        return  # it is lost, and this is heard late
    if any([await find_hold(tx, account_id, hold_id) for hold_id in held_by]):
        return  # it is answered, or asked about once more
    # The money is held on, whatever the account's status: this takes the place of the hold that is over.
    await end_return_risk(tx, transaction, now, when_frozen=True)
    available = await _read_available(tx, account_id, list(held_by.values()))
    if not available:
        log.warning("disputed_money_gone", escrow_account_id=account_id, transaction_id=transaction.transaction_id)
    left_minor = moving.amount_minor
    for hold_id, account in held_by.items():
        amount_minor = min(left_minor, available.get(account, 0))
        left_minor -= amount_minor
        if amount_minor:
            await holds.reserve_money(
                tx,
                account_id,
                account,
                hold_id=hold_id,
                amount_minor=amount_minor,
                currency=transaction.amount.currency_code,
                reason="DISPUTE",
                transaction_id=transaction.transaction_id,
                now=now,
            )


async def _read_available(tx: Tx, account_id: str, accounts: Sequence[LedgerAccount]) -> dict[LedgerAccount, int]:
    """What is there of the ledger accounts that have something. Raises: NotSealed."""
    # What somebody else booked or holds would pass for money that is gone.
    await check_whole_book(tx, account_id)
    balances = await escrow_accounts.list_balances(tx, account_id, accounts)
    await check_holds_on(tx, account_id, [each.ledger_account for each in balances if each.held_minor])
    return {each.ledger_account: each.available_minor for each in balances if each.available_minor > 0}


async def _release(tx: Tx, account_id: str, hold_id: str, now: datetime, *, when_frozen: bool) -> None:
    try:
        await holds.end_hold(tx, account_id, hold_id, HoldStatus.RELEASED, now, when_frozen=when_frozen)
    except (refusals.HoldNotFound, IllegalStatusChange):
        return  # what was never at risk has none, and a person may have ended it
    except EscrowAccountFrozen:
        await holds.let_hold_expire(tx, account_id, hold_id, now, now)


def _list_dispute_holds(transaction: transactions_pb2.Transaction) -> dict[str, LedgerAccount]:
    """The holds of a dispute, by id, and what each holds. What came while the account was frozen is on UNAPPLIED until
    somebody applies it, or a part of it.
    """
    moving, ids = _moving_of(transaction), (transaction.transaction_id, transaction.dispute_reference)
    return {derived_id("hold", *ids): moving.target, derived_id("hold", *ids, "UNAPPLIED"): unapplied_of(moving)}


def _hold_id(transaction: transactions_pb2.Transaction) -> str:
    """One hold a presentment."""
    return derived_id("hold", transaction.transaction_id, _attempt(transaction))


def _attempt(transaction: transactions_pb2.Transaction) -> str:
    """What tells one try of a transaction from the next: debits count presentments, payouts attempts."""
    return str(transaction.presentments if _type_of(transaction).is_inbound else transaction.attempts)


def _moving_of(transaction: transactions_pb2.Transaction) -> Moving:
    return Moving(_type_of(transaction), transaction.party_id, transaction.amount.amount_minor)


def _type_of(transaction: transactions_pb2.Transaction) -> TransactionType:
    return require_type(from_enum(_Transaction.Type, transaction.type))
