"""The book's SQL for writing: rows in, domain values out. What changes balances or holds goes through its functions.

Functions that take an asyncpg connection are on the posting path; they need an open transaction with its organization
set, and work as well on the connection under a SQLAlchemy transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from asyncpg import Connection, Record
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data.housekeeping import HANDLED_REQUESTS_DAYS
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import seals_of
from services.escrow.domain.account import Balance
from services.escrow.domain.chart import Direction, Kind, LedgerAccount
from services.escrow.domain.journal import Layer, Leg, NewEntry
from services.escrow.tables import (
    escrow_accounts,
    holds,
    journal_entries,
    ledger_accounts,
    ledger_entries,
    refused_postings,
)

_TIME = sa.TIMESTAMP(timezone=True)
# Numbers, flags and kinds go as literals: asyncpg asks every element of a list whether it is a list itself, which costs
# more than all else in sending them.
_LITERALS = {
    **dict.fromkeys((4, 7, 8, 24, 25), "int"),
    **dict.fromkeys((23, 26, 27), "boolean"),
    5: "text",
    28: "bigint",
}
_PARAMETERS = (f"${n}::text::{_LITERALS[n]}[]" if n in _LITERALS else f"${n}" for n in range(1, 31))
_POST = f"SELECT * FROM post_journal_entries({', '.join(_PARAMETERS)})"  # noqa: S608  # of these constants


class LegVerdict(NamedTuple):
    """Where a leg was booked: its number in its ledger account, and the balance of its layer after it."""

    sequence: int
    balance_after: int


class Verdict(NamedTuple):
    """What post_journal_entries decided of one entry; see migrations/sql/post_journal_entries.sql."""

    outcome: str
    replayed: bool
    sequence: int
    booked_at: datetime
    subject: str
    ledger_account: LedgerAccount | None
    available_minor: int
    requested_minor: int
    legs: Sequence[LegVerdict]


async def insert_journal_entries(
    connection: Connection, entries: Sequence[NewEntry], seals: Sequence[tuple[bytes, bytes]], now: datetime
) -> list[Verdict]:
    """Books the entries in this order, each judged by itself, with its seal and that of its refusal."""
    row = await connection.fetchrow(_POST, now, *_columns(entries), *map(list, zip(*seals, strict=True)))
    assert row is not None
    legs = list(zip(row["leg_sequence"], row["leg_balance"], strict=True))
    verdicts = []
    first = 0
    for number, entry in enumerate(entries):
        last = first + len(entry.legs)
        verdicts.append(
            Verdict(
                row["verdict"][number],
                row["replayed"][number],
                row["sequence"][number],
                row["booked_at"][number],
                row["subject"][number],
                _account(row["kind"][number], row["party_id"][number]),
                row["available"][number],
                row["requested"][number],
                [LegVerdict(*leg) for leg in legs[first:last]],
            )
        )
        first = last
    return verdicts


def _account(kind: str | None, party_id: str | None) -> LedgerAccount | None:
    return None if kind is None else LedgerAccount(Kind(kind), party_id or "")


def _columns(entries: Sequence[NewEntry]) -> list[Any]:
    """The entries as the function's arrays: what repeats is written once and referred to by its position, from 1."""
    escrows: dict[tuple[str, str], int] = {}
    accounts: dict[tuple[int, Kind, str], int] = {}
    keys: dict[tuple[str, object], int] = {}
    of_entries: list[tuple[Any, ...]] = []
    of_legs: list[tuple[Any, ...]] = []
    for number, entry in enumerate(entries, start=1):
        escrow = escrows.setdefault((entry.org_id, entry.escrow_account_id), len(escrows) + 1)
        first = keys.setdefault((entry.org_id, entry.key.key), number)
        of_entries.append(
            (
                escrow,
                first,
                entry.key.key,
                entry.key.fingerprint,
                entry.journal_entry_id,
                entry.type.value,
                entry.description,
                entry.effective_at,
                entry.currency,
                entry.transaction_id,
                entry.investment_id,
                entry.distribution_id,
                entry.reverses_journal_entry_id,
                entry.created_by,
                entry.external_id,
                orjson.dumps(entry.metadata).decode() if entry.metadata else None,
                entry.when_frozen,
                len(entry.legs),
            )
        )
        for (kind, party_id), direction, amount_minor, layer in entry.legs:
            account = accounts.setdefault((escrow, kind, party_id), len(accounts) + 1)
            of_legs.append((account, direction is Direction.DEBIT, layer is Layer.PENDING, amount_minor))
    columns: list[Any] = []
    for rows, width in ((list(escrows), 2), (list(accounts), 3), (of_entries, 18), (of_legs, 4)):
        columns += [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
    for position in _LITERALS:
        columns[position - 2] = f"{{{','.join(map(str, columns[position - 2]))}}}"
    return columns


async def list_booked_legs(connection: Connection, places: Sequence[tuple[str, str, int]]) -> list[Record]:
    """The legs of the entries at (org_id, escrow_account_id, sequence), each with its entry's columns, in order."""
    return await connection.fetch(
        "SELECT j.journal_entry_id, j.type, j.description, j.leg_count, j.transaction_id, j.investment_id,"
        " j.distribution_id, j.reverses_journal_entry_id, j.created_by, j.external_id, j.metadata, j.org_id,"
        " j.escrow_account_id, j.request_key, j.fingerprint, j.seal, e.currency, l.*"
        " FROM unnest($1::text[], $2::text[], $3::bigint[]) AS p (org_id, escrow_account_id, sequence)"
        " JOIN journal_entries j USING (org_id, escrow_account_id, sequence)"
        " JOIN escrow_accounts e ON e.org_id = j.org_id AND e.escrow_account_id = j.escrow_account_id"
        " JOIN ledger_entries l ON l.org_id = j.org_id AND l.escrow_account_id = j.escrow_account_id"
        " AND l.journal_sequence = j.sequence"
        " ORDER BY j.org_id, j.escrow_account_id, j.sequence, l.leg",
        *([list(column) for column in zip(*places, strict=True)] or [[], [], []]),
    )


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
    return [Balance(LedgerAccount(Kind(kind), party), *rest) for kind, party, *rest in await tx.execute(query)]


# --- journal entries --------------------------------------------------------------------------------------------------


class BookedEntry(NamedTuple):
    """A journal entry as it stands in the book."""

    journal_entry_id: str
    transaction_id: str | None
    investment_id: str | None
    distribution_id: str | None
    legs: list[Leg]


async def list_journal_entries_of_transaction(
    tx: AsyncConnection, escrow_account_id: str, transaction_id: str
) -> list[BookedEntry]:
    """What the book has of a transaction, oldest first."""
    return await _list_entries(tx, escrow_account_id, journal_entries.c.transaction_id == transaction_id)


async def find_journal_entry(tx: AsyncConnection, escrow_account_id: str, journal_entry_id: str) -> BookedEntry | None:
    found = await _list_entries(tx, escrow_account_id, journal_entries.c.journal_entry_id == journal_entry_id)
    return found[0] if found else None


async def _list_entries(
    tx: AsyncConnection, escrow_account_id: str, which: sa.ColumnElement[bool]
) -> list[BookedEntry]:
    head, legs = journal_entries.c, ledger_entries.c
    query = (
        sa.select(
            head.journal_entry_id,
            head.transaction_id,
            head.investment_id,
            head.distribution_id,
            legs.kind,
            legs.party_id,
            legs.direction,
            legs.amount_minor,
            legs.layer,
        )
        .join_from(
            journal_entries,
            ledger_entries,
            sa.and_(
                legs.org_id == head.org_id,
                legs.escrow_account_id == head.escrow_account_id,
                legs.journal_sequence == head.sequence,
            ),
        )
        .where(is_mine(journal_entries), head.escrow_account_id == escrow_account_id, which)
        .order_by(head.sequence, legs.leg)
    )
    found: dict[str, BookedEntry] = {}
    for row in await tx.execute(query):
        booked = found.setdefault(row[0], BookedEntry(*row[:4], legs=[]))
        account = LedgerAccount(Kind(row.kind), row.party_id)
        booked.legs.append(Leg(account, Direction(row.direction), row.amount_minor, Layer(row.layer)))
    return list(found.values())


# --- holds ------------------------------------------------------------------------------------------------------------


class HoldVerdict(NamedTuple):
    """What the hold functions decided; see migrations/sql/holds.sql."""

    outcome: str
    subject: str
    available_minor: int


async def insert_hold(
    tx: AsyncConnection, escrow_account_id: str, hold_id: str, now: datetime, **values: Any
) -> HoldVerdict:
    call = sa.text(
        "SELECT * FROM place_hold(:now, :org_id, :escrow_account_id, :hold_id, :kind, :party_id, :amount_minor,"
        " :currency, :reason, :description, :transaction_id, :expires_at, :created_by, :external_id, :metadata,"
        " :end_digest)"
    ).bindparams(
        sa.bindparam("now", type_=_TIME), sa.bindparam("expires_at", type_=_TIME), sa.bindparam("metadata", type_=JSONB)
    )
    place = {"org_id": current_principal().org_id, "escrow_account_id": escrow_account_id, "hold_id": hold_id}
    digest = seals_of(tx).digest_proof(holds.name, *place.values())
    return HoldVerdict(*(await tx.execute(call, {"now": now, "end_digest": digest, **place, **values})).one())


async def save_end_of_hold(
    tx: AsyncConnection,
    escrow_account_id: str,
    hold_id: str,
    status: str,
    now: datetime,
    resolved_by: str,
    *,
    captured_minor: int = 0,
    when_frozen: bool = False,
) -> HoldVerdict:
    call = sa.text(
        "SELECT * FROM resolve_hold(:now, :org_id, :escrow_account_id, :hold_id, :status, :captured_minor,"
        " :when_frozen, :resolved_by, :proof)"
    ).bindparams(sa.bindparam("now", type_=_TIME))
    values = {
        "now": now,
        "org_id": current_principal().org_id,
        "escrow_account_id": escrow_account_id,
        "hold_id": hold_id,
        "status": status,
        "captured_minor": captured_minor,
        "when_frozen": when_frozen,
        "resolved_by": resolved_by,
        "proof": await _prove_hold(tx, escrow_account_id, hold_id),
    }
    return HoldVerdict(*(await tx.execute(call, values)).one())


async def save_expiry_of_hold(tx: AsyncConnection, escrow_account_id: str, hold_id: str, at: datetime) -> bool:
    """Lets an open hold end by itself at a time; False if it is not open."""
    org_id, proof = current_principal().org_id, await _prove_hold(tx, escrow_account_id, hold_id)
    call = sa.select(sa.func.let_hold_expire(org_id, escrow_account_id, hold_id, sa.literal(at, _TIME), proof))
    return bool(await tx.scalar(call))


async def _prove_hold(tx: AsyncConnection, escrow_account_id: str, hold_id: str) -> bytes:
    """What the database asks of who ends the hold. Raises: NotSealed: somebody else placed it."""
    c = holds.c
    mine = sa.select(c.end_digest).where(is_mine(holds), c.escrow_account_id == escrow_account_id, c.hold_id == hold_id)
    digest = await tx.scalar(mine)
    return seals_of(tx).prove_to(digest, holds.name, hold_id, current_principal().org_id, escrow_account_id, hold_id)


async def find_hold(tx: AsyncConnection, escrow_account_id: str, hold_id: str) -> sa.Row[Any] | None:
    table = holds.c
    query = select_holds_with_account().where(
        is_mine(holds), table.escrow_account_id == escrow_account_id, table.hold_id == hold_id
    )
    return (await tx.execute(query)).one_or_none()


def select_holds_with_account() -> sa.Select[Any]:
    """Holds, each with the currency and the status of its escrow account."""
    escrow = escrow_accounts.c
    return sa.select(
        holds,
        escrow.currency,
        escrow.status.label("escrow_account_status"),
        escrow.entry_sequence.label("escrow_account_entries"),
    ).join_from(
        holds,
        escrow_accounts,
        sa.and_(
            escrow_accounts.c.org_id == holds.c.org_id,
            escrow_accounts.c.escrow_account_id == holds.c.escrow_account_id,
        ),
    )


async def list_organizations_with_due_holds(tx: AsyncConnection, now: datetime, most: int) -> Sequence[str]:
    """Organizations that have open holds whose time ran out, the longest overdue first."""
    query = _due_holds(sa.select(holds.c.org_id), now).group_by(holds.c.org_id)
    return (await tx.scalars(query.order_by(sa.func.min(holds.c.expires_at)).limit(most))).all()


async def list_due_holds(tx: AsyncConnection, now: datetime, most: int) -> Sequence[sa.Row[Any]]:
    """Open holds whose time ran out, of the transaction's organization, oldest first."""
    query = _due_holds(sa.select(holds.c.escrow_account_id, holds.c.hold_id), now)
    return (await tx.execute(query.order_by(holds.c.expires_at).limit(most))).all()


def _due_holds(query: sa.Select[Any], now: datetime) -> sa.Select[Any]:
    """Those of frozen escrow accounts wait."""
    escrow = escrow_accounts.c
    same = sa.and_(escrow.org_id == holds.c.org_id, escrow.escrow_account_id == holds.c.escrow_account_id)
    return query.join_from(holds, escrow_accounts, same).where(
        holds.c.status == "PLACED", holds.c.expires_at <= now, escrow.status != "FROZEN"
    )


async def delete_old_refusals(tx: AsyncConnection, most: int) -> int:
    """Frees keys of refused postings that have served their time; how many."""
    keys = refused_postings.primary_key.columns
    kept = sa.text(f"interval '{HANDLED_REQUESTS_DAYS} days'")  # as every other refusal, by the database's clock
    old = sa.select(*keys).where(refused_postings.c.created_at < sa.func.now() - kept).limit(most)
    return (await tx.execute(sa.delete(refused_postings).where(sa.tuple_(*keys).in_(old)))).rowcount
