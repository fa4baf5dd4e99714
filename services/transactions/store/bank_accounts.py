"""Bank accounts: at most one ACTIVE default for payouts a party. Every change is published with its state."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.transactions.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_row, keep_sealed, seal_rows
from services.transactions import messages
from services.transactions.domain.bank_accounts import ACTIVE, LIVE
from services.transactions.tables import bank_accounts

_c = bank_accounts.c


async def find_bank_account(tx: AsyncConnection, bank_account_id: str) -> sa.Row[Any] | None:
    """Raises: NotSealed."""
    row = (await tx.execute(_select_one(bank_account_id))).one_or_none()
    return None if row is None else check_row(tx, bank_accounts, row)


async def lock_bank_account(tx: AsyncConnection, bank_account_id: str, *, to_block: bool = False) -> sa.Row[Any] | None:
    """
    Args:
        to_block: Nobody uses it afterwards, so whatever it says now may be sealed.

    Raises:
        NotSealed
    """
    row = (await tx.execute(_select_one(bank_account_id).with_for_update(key_share=True))).one_or_none()
    if row is not None and not to_block:
        check_row(tx, bank_accounts, row)
    return row


async def list_bank_accounts(tx: AsyncConnection, bank_account_ids: Collection[str]) -> dict[str, sa.Row[Any]]:
    statement = sa.select(bank_accounts).where(is_mine(bank_accounts), _c.bank_account_id.in_(bank_account_ids))
    return {row.bank_account_id: row for row in keep_sealed(tx, bank_accounts, await tx.execute(statement))}


async def list_default_accounts(tx: AsyncConnection, party_ids: Collection[str]) -> dict[str, sa.Row[Any]]:
    """Where each party is paid, by party."""
    theirs = (is_mine(bank_accounts), _c.party_id.in_(party_ids))
    statement = sa.select(bank_accounts).where(*theirs, _c.default_for_payouts, _c.status == ACTIVE)
    return {row.party_id: row for row in keep_sealed(tx, bank_accounts, await tx.execute(statement))}


async def lock_default(tx: AsyncConnection, party_id: str) -> None:
    """Lets requests that make a default of the party go one by one. Who locks an account, too, does so first."""
    key = sa.func.hashtextextended(f"bank_accounts|{current_principal().org_id}|{party_id}", 0)
    await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


async def has_default(tx: AsyncConnection, party_id: str) -> bool:
    """Whether the party has a default for payouts, or one that becomes it when it is confirmed."""
    theirs = sa.select(_c.bank_account_id).where(
        is_mine(bank_accounts), _c.party_id == party_id, _c.default_for_payouts
    )
    return bool(await tx.scalar(sa.select(theirs.exists())))


async def count_owners(tx: AsyncConnection, digest: str) -> int:
    """How many parties have this account at this bank."""
    same = (is_mine(bank_accounts), _c.account_number_digest == digest, _c.status.in_(LIVE))
    return (await tx.execute(sa.select(sa.func.count(sa.distinct(_c.party_id))).where(*same))).scalar_one()


async def insert_bank_account(tx: AsyncConnection, now: datetime, **values: Any) -> sa.Row[Any]:
    """Adds an account, and publishes it."""
    statement = sa.insert(bank_accounts).values(**values, version=1, created_at=now, updated_at=now)
    row = (await tx.execute(statement.returning(bank_accounts))).one()
    await seal_rows(tx, bank_accounts, [row])
    await outbox.enqueue(tx, events.BankAccountCreated(bank_account=messages.to_bank_account(row)), now=now)
    return row


async def save_bank_account(tx: AsyncConnection, row: sa.Row[Any], now: datetime, **changes: Any) -> sa.Row[Any]:
    """Changes a locked account, and publishes it."""
    statement = sa.update(bank_accounts).where(_c.org_id == row.org_id, _c.bank_account_id == row.bank_account_id)
    values = {**changes, "version": _c.version + 1, "updated_at": now}
    changed = (await tx.execute(statement.values(values).returning(bank_accounts))).one()
    await seal_rows(tx, bank_accounts, [changed])
    await outbox.enqueue(tx, events.BankAccountUpdated(bank_account=messages.to_bank_account(changed)), now=now)
    return changed


def _select_one(bank_account_id: str) -> sa.Select[Any]:
    return sa.select(bank_accounts).where(is_mine(bank_accounts), _c.bank_account_id == bank_account_id)
