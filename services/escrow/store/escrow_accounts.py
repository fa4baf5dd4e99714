"""Escrow accounts and the balances of their ledger accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.reach import is_mine
from services.escrow.domain.account import Balance
from services.escrow.domain.chart import LedgerAccount, LedgerAccountKind
from services.escrow.tables import escrow_accounts, ledger_accounts


async def insert_escrow_account(tx: AsyncConnection, values: dict[str, Any]) -> sa.Row[Any]:
    return (await tx.execute(sa.insert(escrow_accounts).values(**values).returning(escrow_accounts))).one()


async def find_escrow_account(tx: AsyncConnection, escrow_account_id: str) -> sa.Row[Any] | None:
    table = escrow_accounts.c
    mine = sa.select(escrow_accounts).where(is_mine(escrow_accounts), table.escrow_account_id == escrow_account_id)
    return (await tx.execute(mine)).one_or_none()


async def lock_escrow_account(tx: AsyncConnection, escrow_account_id: str) -> sa.Row[Any] | None:
    """The escrow account, which nobody else changes, nor anything in it, until this transaction ends."""
    table = escrow_accounts.c
    mine = sa.select(escrow_accounts).where(is_mine(escrow_accounts), table.escrow_account_id == escrow_account_id)
    return (await tx.execute(mine.with_for_update(key_share=True))).one_or_none()


async def save_escrow_account(
    tx: AsyncConnection, escrow_account_id: str, now: datetime, changes: dict[str, Any]
) -> sa.Row[Any]:
    """Writes columns of the escrow account: a new version of it."""
    table = escrow_accounts.c
    change = (
        sa.update(escrow_accounts)
        .where(is_mine(escrow_accounts), table.escrow_account_id == escrow_account_id)
        .values(updated_at=now, version=table.version + 1, **changes)
        .returning(escrow_accounts)
    )
    return (await tx.execute(change)).one()


def on_normal_side(debit: sa.ColumnElement[int], credit: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """A balance as its account's normal side sees it."""
    return sa.case((ledger_accounts.c.normal_balance == "DEBIT", debit - credit), else_=credit - debit)


async def list_balances(
    tx: AsyncConnection, escrow_account_id: str, accounts: Sequence[LedgerAccount] | None = None
) -> list[Balance]:
    """The balances of these ledger accounts that exist, or of all, by kind and party."""
    table = ledger_accounts.c
    query = (
        sa.select(
            table.kind,
            table.party_id,
            on_normal_side(table.debits_posted, table.credits_posted),
            on_normal_side(table.debits_pending, table.credits_pending),
            table.held,
        )
        .where(is_mine(ledger_accounts), table.escrow_account_id == escrow_account_id)
        .order_by(table.kind, table.party_id)
    )
    if accounts is not None:
        query = query.where(sa.tuple_(table.kind, table.party_id).in_([tuple(account) for account in accounts]))
    return [
        Balance(LedgerAccount(LedgerAccountKind(kind), party), *rest) for kind, party, *rest in await tx.execute(query)
    ]
