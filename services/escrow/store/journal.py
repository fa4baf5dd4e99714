"""Journal entries in the database: booked by its function, read back with their legs, and what was refused.

Functions that take an asyncpg connection are on the posting path; they need an open transaction with its organization
set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from asyncpg import Connection, Record

from services.chassis.data.housekeeping import HANDLED_REQUESTS_DAYS
from services.chassis.data.reach import is_mine
from services.chassis.data.transaction import Tx
from services.escrow.domain.chart import Direction, LedgerAccount, LedgerAccountKind
from services.escrow.domain.investments import Share
from services.escrow.domain.journal import Layer, Leg, NewEntry
from services.escrow.domain.provider_fees import find_fee_entries
from services.escrow.tables import escrow_accounts, journal_entries, ledger_accounts, ledger_entries, refused_postings

# Numbers, flags and kinds go as literals: asyncpg asks every element of a list whether it is a list itself, which costs
# more than all else in sending them.
_LITERALS = {
    **dict.fromkeys((4, 7, 8, 24, 25, 27), "int"),
    **dict.fromkeys((23, 26, 28, 29), "boolean"),
    5: "text",
    30: "bigint",
}
_PARAMETERS = (f"${n}::text::{_LITERALS[n]}[]" if n in _LITERALS else f"${n}" for n in range(1, 33))
_POST = f"SELECT * FROM post_journal_entries({', '.join(_PARAMETERS)})"  # noqa: S608  # of these constants

_GIVE_UP = sa.text("SELECT give_up_posting(:org_id, :escrow_account_id, :key, :fingerprint, :seal)")


class LegVerdict(NamedTuple):
    """Where a leg was booked: its number in its ledger account, and the balance of its layer after it."""

    sequence: int
    balance_after: int


class Verdict(NamedTuple):
    """What post_journal_entries decided of one entry; see migrations/sql/post_journal_entries.sql.

    Args:
        subject: The currency of what is posted.
        booked_at: When it is booked, if it is.
    """

    outcome: str
    sequence: int
    subject: str
    booked_at: datetime | None = None
    legs: Sequence[LegVerdict] = ()
    replayed: bool = False
    ledger_account: LedgerAccount | None = None
    available_minor: int = 0
    requested_minor: int = 0


class Posting(NamedTuple):
    """A call of post_journal_entries, ready to be sent.

    Args:
        places: Where each entry's escrow account stands among those of the call, from 0.
    """

    entries: Sequence[NewEntry]
    places: Sequence[int]
    columns: Sequence[Any]


def build_posting(entries: Sequence[NewEntry], seals: Sequence[tuple[bytes, bytes]]) -> Posting:
    """What books the entries in this order, each judged by itself, with its seal and that of its refusal."""
    escrows: dict[tuple[str, str], int] = {}
    places = [escrows.setdefault((entry.org_id, entry.escrow_account_id), len(escrows)) for entry in entries]
    columns = _columns(entries, escrows, places)
    return Posting(entries, places, [*columns, *map(list, zip(*seals, strict=True))])


async def give_up(tx: Tx, entry: NewEntry, seal: bytes) -> None:
    """Nothing is booked under the entry's key from now on, unless something was.

    Args:
        seal: Of its refusal.
    """
    of_key = {"key": entry.key.key, "fingerprint": entry.key.fingerprint, "seal": seal}
    place = {"org_id": entry.org_id, "escrow_account_id": entry.escrow_account_id}
    await tx.execute(_GIVE_UP, place | of_key)


async def lock_accounts(connection: Connection, places: Sequence[tuple[str, str]]) -> None:
    """Locks escrow accounts (org_id, escrow_account_id) in the order of their keys, as post_journal_entries does."""
    await connection.execute(
        "SELECT FROM escrow_accounts x JOIN unnest($1::text[], $2::text[]) AS u (org, id)"
        " ON x.org_id = u.org AND x.escrow_account_id = u.id"
        " ORDER BY x.org_id, x.escrow_account_id FOR NO KEY UPDATE OF x",
        *([list(column) for column in zip(*places, strict=True)]),
    )


async def send(connection: Connection, posting: Posting, now: datetime) -> Record:
    row = await connection.fetchrow(_POST, now, *posting.columns)
    assert row is not None
    return row


def read_verdicts(posting: Posting, row: Record) -> list[Verdict]:
    """What became of each entry, from the function's answer."""
    legs = zip(row["leg_sequence"], row["leg_balance"], strict=True)
    currencies, times, refused = row["currency"], row["booked_at"], row["verdict"]
    verdicts = []
    of_entries = zip(posting.entries, posting.places, row["sequence"], strict=True)
    for number, (entry, place, sequence) in enumerate(of_entries):
        booked = [LegVerdict(*leg) for leg in islice(legs, len(entry.legs))]
        if refused is None or refused[number] == "posted":
            verdicts.append(Verdict("posted", sequence, currencies[place], times[place], booked))
        else:
            verdicts.append(_read_refusal(row, number))
    return verdicts


def _read_refusal(row: Record, number: int) -> Verdict:
    kind = row["kind"][number]
    return Verdict(
        row["verdict"][number],
        row["sequence"][number],
        row["subject"][number],
        replayed=row["replayed"][number],
        ledger_account=kind and LedgerAccount(LedgerAccountKind(kind), row["party_id"][number] or ""),
        available_minor=row["available"][number],
        requested_minor=row["requested"][number],
    )


def _columns(entries: Sequence[NewEntry], escrows: Mapping[tuple[str, str], int], of: Sequence[int]) -> list[Any]:
    """The entries as the function's arrays: what repeats is written once and referred to by its position, from 1.

    Args:
        escrows: The escrow accounts, and at which place each stands, from 0.
        of: Where that of each entry stands.
    """
    accounts: dict[tuple[int, LedgerAccountKind, str], int] = {}
    keys: dict[tuple[str, object], int] = {}
    of_entries: list[tuple[Any, ...]] = []
    of_legs: list[tuple[Any, ...]] = []
    for number, (entry, place) in enumerate(zip(entries, of, strict=True), start=1):
        escrow, owing = place + 1, 0
        if entry.payee_party_id is not None:
            owed = (escrow, LedgerAccountKind.RETURNS_RECEIVABLE, entry.payee_party_id)
            owing = accounts.setdefault(owed, len(accounts) + 1)
        of_entries.append(
            (
                escrow,
                keys.setdefault((entry.org_id, entry.key.key), number),
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
                entry.is_of_rails,
                len(entry.legs),
                owing,
                entry.forbids_debts,
            )
        )
        for (kind, party_id), direction, amount_minor, layer in entry.legs:
            account = accounts.setdefault((escrow, kind, party_id), len(accounts) + 1)
            of_legs.append((account, direction is Direction.DEBIT, layer is Layer.PENDING, amount_minor))
    columns: list[Any] = []
    for rows, width in ((list(escrows), 2), (list(accounts), 3), (of_entries, 20), (of_legs, 4)):
        columns += [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
    columns[3] = [kind.value for kind in columns[3]]
    for position in _LITERALS:
        columns[position - 2] = f"{{{','.join(map(str, columns[position - 2]))}}}"
    return columns


async def list_booked_legs(connection: Connection, places: Sequence[tuple[str, str, int]]) -> list[Record]:
    """The legs of the entries at (org_id, escrow_account_id, sequence), each with its entry's columns, in order."""
    return await connection.fetch(
        "SELECT e.org_id, e.escrow_account_id, e.currency, j.journal_entry_id, j.type, j.description, j.leg_count,"
        " j.transaction_id, j.investment_id, j.distribution_id, j.reverses_journal_entry_id, j.created_by,"
        " j.external_id, j.metadata, j.request_key, j.fingerprint, j.seal, j.created_at, j.effective_at,"
        " l.journal_sequence, l.leg, a.kind, a.party_id, l.sequence, l.debit, l.pending, l.amount_minor,"
        " l.posted_after, l.pending_after"
        " FROM unnest($1::text[], $2::text[], $3::bigint[]) AS p (org_id, escrow_account_id, sequence)"
        " JOIN escrow_accounts e USING (org_id, escrow_account_id)"
        " JOIN journal_entries j ON j.escrow_no = e.escrow_no AND j.sequence = p.sequence"
        " JOIN ledger_entries l ON l.escrow_no = j.escrow_no AND l.journal_sequence = j.sequence"
        " JOIN ledger_accounts a ON a.account_no = l.account_no"
        " ORDER BY e.org_id, e.escrow_account_id, j.sequence, l.leg",
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
    rows: list[dict[str, Any]]  # its legs, each with what its seal covers, and when it was effective


async def list_payment_entries(tx: Tx, escrow_account_id: str, transaction_id: str) -> list[BookedEntry]:
    """What the book has of a transaction's money, oldest first: not what its provider kept for itself."""
    found, fees = await _list_of_transaction(tx, escrow_account_id, transaction_id)
    return [entry for entry in found if entry.journal_entry_id not in fees]


async def list_fee_entries(tx: Tx, escrow_account_id: str, transaction_id: str) -> list[BookedEntry]:
    """What the book has of the fees that a transaction's provider kept, oldest first."""
    found, fees = await _list_of_transaction(tx, escrow_account_id, transaction_id)
    return [entry for entry in found if entry.journal_entry_id in fees]


async def _list_of_transaction(
    tx: Tx, escrow_account_id: str, transaction_id: str
) -> tuple[list[BookedEntry], frozenset[str]]:
    """All entries of a transaction, and which of them are of fees."""
    found = await _list_entries(tx, _OF_TRANSACTION, escrow_account_id, transaction_id)
    heads = ((each.journal_entry_id, each.rows[0]) for each in found)
    return found, find_fee_entries((each, row["type"], row["reverses_journal_entry_id"]) for each, row in heads)


async def list_journal_entries_on(tx: Tx, escrow_account_id: str, account: LedgerAccount) -> list[BookedEntry]:
    """The entries with a leg on this ledger account, with all their legs, oldest first."""
    return await _list_entries(tx, _ON_ACCOUNT, escrow_account_id, account.kind.value, party_id=account.party_id)


async def list_journal_entries_by_id(
    tx: Tx, escrow_account_id: str, journal_entry_ids: Collection[str]
) -> dict[str, BookedEntry]:
    """Those of these entries that are in the escrow account's book, by their ids."""
    found = await _list_entries(tx, _ANY, escrow_account_id, sorted(journal_entry_ids))
    return {each.journal_entry_id: each for each in found}


async def read_booked(connection: Connection, place: tuple[str, str], shares: Sequence[Share]) -> dict[Share, int]:
    """What was booked for each of these shares, on the normal side of its ledger account.

    A release is of investments, and names none; so is what reverses one.

    Args:
        place: org_id and escrow_account_id.
    """
    rows = await connection.fetch(
        "SELECT p.kind, p.party_id, p.investment_id,"
        " sum(CASE WHEN l.debit = (a.normal_balance = 'DEBIT') THEN l.amount_minor ELSE -l.amount_minor END) AS minor"
        " FROM unnest($3::text[], $4::text[], $5::text[]) AS p (kind, party_id, investment_id)"
        " JOIN ledger_accounts a USING (kind, party_id)"
        " JOIN ledger_entries l ON l.account_no = a.account_no"
        " JOIN journal_entries j ON j.escrow_no = l.escrow_no AND j.sequence = l.journal_sequence"
        " WHERE a.org_id = $1 AND a.escrow_account_id = $2 AND NOT l.pending"
        " AND j.investment_id IS NOT DISTINCT FROM p.investment_id"
        " AND j.type <> 'RELEASE' AND NOT EXISTS (SELECT FROM journal_entries o"
        " WHERE o.org_id = j.org_id AND o.journal_entry_id = j.reverses_journal_entry_id AND o.type = 'RELEASE')"
        " GROUP BY p.kind, p.party_id, p.investment_id",
        *place,
        *([each.ledger_account.kind.value for each in shares], [each.ledger_account.party_id for each in shares]),
        [each.investment_id for each in shares],
    )
    return {
        Share(LedgerAccount(LedgerAccountKind(row["kind"]), row["party_id"]), row["investment_id"]): int(row["minor"])
        for row in rows
    }


async def list_reversed(tx: Tx, journal_entry_ids: Collection[str]) -> set[str]:
    """Those of these entries of which an entry of the book says that it reverses them, whoever booked it."""
    reverses = journal_entries.c.reverses_journal_entry_id
    which = sa.select(reverses).where(is_mine(journal_entries), reverses.in_(sorted(journal_entry_ids)))
    return set((await tx.execute(which)).scalars())


async def has_entries(tx: Tx, escrow_account_id: str) -> bool:
    """Whether anything was ever booked in the escrow account, whoever booked it."""
    of_account = escrow_accounts.c.escrow_no == journal_entries.c.escrow_no
    which = escrow_accounts.c.escrow_account_id == escrow_account_id
    return bool(await tx.scalar(sa.select(sa.exists().where(is_mine(escrow_accounts), which, of_account))))


async def _list_entries(
    tx: Tx, query: sa.Select[Any], escrow_account_id: str, which: str | list[str], **named: str
) -> list[BookedEntry]:
    found: dict[str, BookedEntry] = {}
    for row in await tx.execute(query, {"escrow_account_id": escrow_account_id, "which": which} | named):
        booked = found.setdefault(row[0], BookedEntry(row[0], row[1], row[2], row[3], row[4], legs=[], rows=[]))
        booked.rows.append(row._mapping)
        account = LedgerAccount(LedgerAccountKind(row.kind), row.party_id)
        direction = Direction.DEBIT if row.debit else Direction.CREDIT
        layer = Layer.PENDING if row.pending else Layer.POSTED
        booked.legs.append(Leg(account, direction, row.amount_minor, layer))
    return list(found.values())


def _select_entries(*which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    escrow, head, leg, account = escrow_accounts.c, journal_entries.c, ledger_entries.c, ledger_accounts.c
    return (
        sa.select(
            head.journal_entry_id,
            head.transaction_id,
            head.investment_id,
            head.distribution_id,
            head.sequence.label("journal_sequence"),
            escrow.org_id,
            escrow.escrow_account_id,
            head.request_key,
            head.fingerprint,
            head.type,
            head.reverses_journal_entry_id,
            head.created_by,
            head.seal,
            head.effective_at,
            account.kind,
            account.party_id,
            leg.debit,
            leg.amount_minor,
            leg.pending,
        )
        .select_from(
            escrow_accounts.join(journal_entries, head.escrow_no == escrow.escrow_no)
            .join(ledger_entries, sa.and_(leg.escrow_no == head.escrow_no, leg.journal_sequence == head.sequence))
            .join(ledger_accounts, account.account_no == leg.account_no)
        )
        .where(
            is_mine(escrow_accounts),
            escrow.escrow_account_id == sa.bindparam("escrow_account_id"),
            *which,
        )
        .order_by(head.sequence, leg.leg)
    )


_which: sa.BindParameter[str] = sa.bindparam("which")
_OF_TRANSACTION = _select_entries(journal_entries.c.transaction_id == _which)
_ANY = _select_entries(journal_entries.c.journal_entry_id == sa.any_(sa.bindparam("which", type_=sa.ARRAY(sa.Text))))
_touching, _touched = ledger_entries.alias("touching"), ledger_accounts.alias("touched")
_ON_ACCOUNT = _select_entries(
    sa.exists().where(
        _touching.c.escrow_no == journal_entries.c.escrow_no,
        _touching.c.journal_sequence == journal_entries.c.sequence,
        _touching.c.account_no == _touched.c.account_no,
        _touched.c.escrow_no == journal_entries.c.escrow_no,
        _touched.c.kind == _which,
        _touched.c.party_id == sa.bindparam("party_id"),
    )
)


async def delete_old_refusals(tx: Tx, most: int) -> int:
    """Frees keys of refused postings that have served their time; how many."""
    keys = refused_postings.primary_key.columns
    kept = sa.text(f"interval '{HANDLED_REQUESTS_DAYS} days'")  # as every other refusal, by the database's clock
    old = sa.select(*keys).where(refused_postings.c.created_at < sa.func.now() - kept).limit(most)
    return (await tx.execute(sa.delete(refused_postings).where(sa.tuple_(*keys).in_(old)))).rowcount
