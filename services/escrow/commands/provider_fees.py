"""Books what a payment provider kept for itself of a transaction's money: domain/provider_fees.py says how."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from realco.transactions.v1 import transactions_pb2

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.ids import new_id
from services.escrow.domain.journal import EntryType, NewEntry, build_key, debit
from services.escrow.domain.provider_fees import BEARING, PROVIDER_FEES, build_fee_legs
from services.escrow.domain.stages import BookedPosition
from services.escrow.posting.booking import book_in
from services.escrow.posting.checks import check_entries, check_whole_book
from services.escrow.store import escrow_accounts, journal
from services.escrow.store.journal import BookedEntry


async def book_provider_fee(
    tx: Tx, transaction: transactions_pb2.Transaction, version: int, occurred_at: datetime, now: datetime
) -> None:
    """Brings the book to what the provider has kept by now, frozen or not: it is gone.

    Args:
        version: Of the event that says so.

    Raises: NotSealed.
    """
    if not transaction.HasField("provider_fee"):
        return
    account_id, kept = transaction.escrow_account_id, transaction.provider_fee
    await escrow_accounts.require_locked(tx, account_id)
    booked = await journal.list_fee_entries(tx, account_id, transaction.transaction_id)
    check_entries(tx, booked)
    position = BookedPosition(leg for entry in booked for leg in entry.legs)
    if kept.amount_minor + position.at_the_bank() == 0 or _is_late(booked, occurred_at):
        return
    await check_whole_book(tx, account_id)
    balances = await escrow_accounts.list_balances(tx, account_id, BEARING)
    available = {each.ledger_account: each.available_minor for each in balances}
    legs = build_fee_legs(kept.amount_minor, position, lambda account: max(0, available.get(account, 0)))
    entry = NewEntry(
        org_id=current_principal().org_id,
        escrow_account_id=account_id,
        journal_entry_id=new_id("je"),
        key=build_key("provider-fee", transaction.transaction_id, str(version), body=str(kept.amount_minor).encode()),
        type=EntryType.PROVIDER_FEE,
        description="Fee of the payment provider",
        legs=legs,
        created_by=current_principal().person,
        effective_at=min(occurred_at, now),
        currency=kept.currency_code,
        transaction_id=transaction.transaction_id,
        is_of_rails=True,
    )
    await book_in(tx, [entry], now)
    unpaid_minor = sum(leg.amount_minor for leg in legs if leg == debit(PROVIDER_FEES, leg.amount_minor))
    if unpaid_minor:
        log.warning(
            "provider_fee_missing",
            escrow_account_id=account_id,
            transaction_id=transaction.transaction_id,
            party_id=transaction.party_id,
            amount_minor=unpaid_minor,
            currency=kept.currency_code,
        )


def _is_late(booked: Sequence[BookedEntry], occurred_at: datetime) -> bool:
    """Whether the book has what a later event said: one that was set aside is handled after those behind it."""
    fees = (entry.rows[0] for entry in booked)
    return any(row["type"] == EntryType.PROVIDER_FEE.value and row["effective_at"] > occurred_at for row in fees)
