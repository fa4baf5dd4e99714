"""The escrow accounts that money was transferred from: what is missing there, who owes it, and what is there by hand.

Which they are says the function sources_of of migrations/sql. All of them have one currency.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from services.chassis.data.reach import is_mine
from services.chassis.data.transaction import Tx
from services.escrow.domain.chart import LedgerAccountKind
from services.escrow.store.escrow_accounts import on_normal_side
from services.escrow.store.posted_by_hand import select_posted_by_hand
from services.escrow.tables import escrow_accounts, ledger_accounts

_account, _ledger = escrow_accounts.c, ledger_accounts.c
_owed = on_normal_side(_ledger.debits_posted, _ledger.credits_posted)


class DebtAtSource(NamedTuple):
    """What a party owes in the escrow account where it owes most of these, in minor units."""

    escrow_account_id: str
    owed_minor: int


async def list_debts_at_sources(tx: Tx, escrow_account_id: str, party_ids: Collection[str]) -> dict[str, DebtAtSource]:
    """By party; nobody who owes nothing there."""
    query = _select_owed(escrow_account_id, _ledger.party_id, _ledger.escrow_account_id, _owed.label("owed"))
    # The greatest comes last, and stays.
    query = query.where(_ledger.party_id.in_(party_ids)).order_by("owed", _ledger.escrow_account_id.desc())
    return {row.party_id: DebtAtSource(row.escrow_account_id, row.owed) for row in await tx.execute(query)}


async def list_missing_at_sources(tx: Tx, escrow_account_id: str) -> list[tuple[str, int]]:
    """The escrow accounts in which parties owe what banks took back, or of which payment providers kept something that
    nobody has paid in since, and how much all together, most first.
    """
    owed = sa.func.sum(_owed).label("owed")
    kinds = LedgerAccountKind.RETURNS_RECEIVABLE, LedgerAccountKind.PROVIDER_FEES
    query = _select_owed(escrow_account_id, _ledger.escrow_account_id, owed, kinds=kinds)
    query = query.group_by(_ledger.escrow_account_id).order_by(owed.desc(), _ledger.escrow_account_id)
    return [(row.escrow_account_id, int(row.owed)) for row in await tx.execute(query)]


async def list_sources_by_hand(tx: Tx, escrow_account_id: str, since: datetime, count_max: int) -> list[str]:
    """The escrow accounts with entries by hand that put money there, most first.

    Args:
        since: When the first of the entries was booked.
    """
    entries = select_posted_by_hand(_select_sources(escrow_account_id), since).subquery("entries").c
    query = sa.select(entries.escrow_account_id).group_by(entries.escrow_account_id)
    query = query.order_by(sa.func.sum(entries.minor).desc(), entries.escrow_account_id)
    return list(await tx.scalars(query.limit(count_max)))


def _select_owed(
    escrow_account_id: str,
    *what: sa.ColumnElement[Any],
    kinds: Collection[LedgerAccountKind] = (LedgerAccountKind.RETURNS_RECEIVABLE,),
) -> sa.Select[Any]:
    return sa.select(*what).where(
        is_mine(ledger_accounts),
        _ledger.escrow_account_id.in_(_select_sources(escrow_account_id)),
        _ledger.kind.in_(kinds),
        _ledger.debits_posted > _ledger.credits_posted,
    )


def _select_sources(escrow_account_id: str) -> sa.Select[Any]:
    here = sa.select(sa.func.public.sources_of(_account.escrow_no))
    here = here.where(is_mine(escrow_accounts), _account.escrow_account_id == escrow_account_id)
    there = escrow_accounts.alias("sources")
    return sa.select(there.c.escrow_account_id).where(is_mine(there), there.c.escrow_no.in_(here))
