"""Escrow accounts and the balances of their ledger accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_rows
from services.chassis.data.rows import build_values_table, list_by_column
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.refusals import EscrowAccountNotFound
from services.escrow.domain.account import MOVES, Balance, EscrowAccount, Freeze, Status
from services.escrow.domain.chart import LedgerAccount, LedgerAccountKind
from services.escrow.tables import escrow_accounts, ledger_accounts


def _read_escrow_account(row: Row) -> EscrowAccount:
    freezes = tuple(
        Freeze(each["note"], each["frozen_by"], datetime.fromisoformat(each["frozen_at"])) for each in row.freezes
    )
    return read_fields(EscrowAccount, row, status=Status(row.status), freezes=freezes)


def _list_columns(account: EscrowAccount) -> dict[str, Any]:
    freezes = [each._asdict() | {"frozen_at": each.frozen_at.isoformat()} for each in account.freezes]
    values = {"status": account.status.value, "freezes": freezes, "metadata": dict(account.metadata)}
    return list_columns(escrow_accounts, account, **values)


ESCROW_ACCOUNTS = Aggregate(escrow_accounts, "escrow_account_id", _read_escrow_account, _list_columns, MOVES)


async def require_escrow_account(source: Source, escrow_account_id: str) -> EscrowAccount:
    """Without its lock. Raises: EscrowAccountNotFound, NotSealed."""
    account = await ESCROW_ACCOUNTS.find(source, escrow_account_id)
    if account is None:
        raise EscrowAccountNotFound()
    return account


async def require_locked(tx: Tx, escrow_account_id: str, field: str | None = None) -> EscrowAccount:
    """
    Args:
        field: Of the request, that names it.

    Raises: EscrowAccountNotFound, NotSealed.
    """
    account = await ESCROW_ACCOUNTS.lock(tx, escrow_account_id)
    if account is None:
        raise EscrowAccountNotFound(field)
    return account


def on_normal_side(debit: sa.ColumnElement[Any], credit: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """A balance as its account's normal side sees it."""
    balance = sa.case((ledger_accounts.c.normal_balance == "DEBIT", debit - credit), else_=credit - debit)
    return sa.cast(balance, sa.BigInteger)


async def list_parties(tx: Tx, escrow_account_id: str) -> frozenset[str]:
    """The parties that have a ledger account of their own in the escrow account."""
    table = ledger_accounts.c
    query = sa.select(table.party_id).distinct()
    query = query.where(is_mine(ledger_accounts), table.escrow_account_id == escrow_account_id, table.of_party)
    return frozenset(await tx.scalars(query))


async def list_balances(
    source: Source, escrow_account_id: str, accounts: Sequence[LedgerAccount] | None = None
) -> list[Balance]:
    """The balances of these ledger accounts that exist, or of all, by kind and party."""
    given = {} if accounts is None else list_by_column(LedgerAccount._fields, [each._asdict() for each in accounts])
    read = _BALANCES if accounts is None else _BALANCES_OF
    found = await fetch_rows(source, read, escrow_account_id=escrow_account_id, **given)
    return [Balance(LedgerAccount(LedgerAccountKind(kind), party), *rest) for kind, party, *rest in found]


_c = ledger_accounts.c


class Totals(NamedTuple):
    """What is held in an escrow account, on whatever ledger accounts, what its parties owe after returns, and what
    payment providers kept."""

    held_minor: int
    owed_minor: int
    kept_minor: int


async def read_totals(tx: Tx, escrow_account_id: str) -> Totals:
    missing = _c.kind == LedgerAccountKind.RETURNS_RECEIVABLE, _c.kind == LedgerAccountKind.PROVIDER_FEES
    owed, kept = (sa.func.sum(on_normal_side(_c.debits_posted, _c.credits_posted)).filter(each) for each in missing)
    sums = [sa.func.coalesce(each, 0) for each in (sa.func.sum(_c.held), owed, kept)]
    where = is_mine(ledger_accounts), _c.escrow_account_id == escrow_account_id, sa.or_(_c.held > 0, *missing)
    return Totals(*map(int, (await tx.execute(sa.select(*sums).where(*where))).one()))


_SELECT_BALANCES = (
    sa.select(
        _c.kind,
        _c.party_id,
        on_normal_side(_c.debits_posted, _c.credits_posted).label("posted"),
        on_normal_side(_c.debits_pending, _c.credits_pending).label("pending"),
        _c.held,
    )
    .where(is_mine(ledger_accounts), _c.escrow_account_id == sa.bindparam("escrow_account_id"))
    .order_by(_c.kind, _c.party_id)
)
_THESE = build_values_table(*((name, sa.Text()) for name in LedgerAccount._fields)).c
_BALANCES = Read(_SELECT_BALANCES)
_BALANCES_OF = Read(_SELECT_BALANCES.where(sa.tuple_(_c.kind, _c.party_id).in_(sa.select(*_THESE))))
