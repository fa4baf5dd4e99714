"""Journal entries in the database: booked by its function, read back with their legs, and what was refused.

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

from services.chassis.data.housekeeping import HANDLED_REQUESTS_DAYS
from services.chassis.data.reach import is_mine
from services.chassis.data.transaction import Tx
from services.escrow.domain.chart import Direction, LedgerAccount, LedgerAccountKind
from services.escrow.domain.journal import Layer, Leg, NewEntry
from services.escrow.tables import journal_entries, ledger_entries, refused_postings

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
    return None if kind is None else LedgerAccount(LedgerAccountKind(kind), party_id or "")


def _columns(entries: Sequence[NewEntry]) -> list[Any]:
    """The entries as the function's arrays: what repeats is written once and referred to by its position, from 1."""
    escrows: dict[tuple[str, str], int] = {}
    accounts: dict[tuple[int, LedgerAccountKind, str], int] = {}
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


class BookedEntry(NamedTuple):
    """A journal entry as it stands in the book."""

    journal_entry_id: str
    transaction_id: str | None
    investment_id: str | None
    distribution_id: str | None
    sequence: int
    legs: list[Leg]
    rows: list[dict[str, Any]]  # its legs, each with what its seal covers: services/escrow/posting/checks.py


async def list_journal_entries_of_transaction(tx: Tx, escrow_account_id: str, transaction_id: str) -> list[BookedEntry]:
    """What the book has of a transaction, oldest first."""
    return await _list_entries(tx, _OF_TRANSACTION, escrow_account_id, transaction_id)


async def find_journal_entry(tx: Tx, escrow_account_id: str, journal_entry_id: str) -> BookedEntry | None:
    found = await _list_entries(tx, _ONE, escrow_account_id, journal_entry_id)
    return found[0] if found else None


async def is_reversed(tx: Tx, journal_entry_id: str) -> bool:
    """Whether an entry of the book says that it reverses this one, whoever booked it."""
    which = journal_entries.c.reverses_journal_entry_id == journal_entry_id
    return bool(await tx.scalar(sa.select(sa.exists().where(is_mine(journal_entries), which))))


async def _list_entries(tx: Tx, query: sa.Select[Any], escrow_account_id: str, which: str) -> list[BookedEntry]:
    found: dict[str, BookedEntry] = {}
    for row in await tx.execute(query, {"escrow_account_id": escrow_account_id, "which": which}):
        booked = found.setdefault(row[0], BookedEntry(row[0], row[1], row[2], row[3], row[4], legs=[], rows=[]))
        booked.rows.append(row._mapping)
        account = LedgerAccount(LedgerAccountKind(row.kind), row.party_id)
        booked.legs.append(Leg(account, Direction(row.direction), row.amount_minor, Layer(row.layer)))
    return list(found.values())


def _select_entries(by: sa.Column[Any]) -> sa.Select[Any]:
    head, legs = journal_entries.c, ledger_entries.c
    return (
        sa.select(
            head.journal_entry_id,
            head.transaction_id,
            head.investment_id,
            head.distribution_id,
            head.sequence.label("journal_sequence"),
            head.org_id,
            head.escrow_account_id,
            head.request_key,
            head.fingerprint,
            head.type,
            head.reverses_journal_entry_id,
            head.created_by,
            head.seal,
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
        .where(
            is_mine(journal_entries),
            head.escrow_account_id == sa.bindparam("escrow_account_id"),
            by == sa.bindparam("which"),
        )
        .order_by(head.sequence, legs.leg)
    )


_OF_TRANSACTION = _select_entries(journal_entries.c.transaction_id)
_ONE = _select_entries(journal_entries.c.journal_entry_id)


async def delete_old_refusals(tx: Tx, most: int) -> int:
    """Frees keys of refused postings that have served their time; how many."""
    keys = refused_postings.primary_key.columns
    kept = sa.text(f"interval '{HANDLED_REQUESTS_DAYS} days'")  # as every other refusal, by the database's clock
    old = sa.select(*keys).where(refused_postings.c.created_at < sa.func.now() - kept).limit(most)
    return (await tx.execute(sa.delete(refused_postings).where(sa.tuple_(*keys).in_(old)))).rowcount
