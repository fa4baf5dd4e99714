"""Whether the book says what this service booked: asked where money leaves, and of every entry once by a job.

The functions of the book run in the database, so whoever has escrow's login can call them as escrow does. What such a
caller cannot make is the seal of an entry: it covers what the entry moves, under which key and for what, and is made
before the call. Entries are numbered without gaps, are never edited, and have their legs and balances from one
statement, so each is looked at once. Up to which number all are ours is remembered in `book_checks`, and by a
process for what it has looked at or booked itself: then asking costs nothing. The seal of such a mark names the entry
that it stands on, and the database's incarnation: one that was kept from before a restore is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from asyncpg import Connection, Record

from services.chassis.calls.auth import current_principal
from services.chassis.data.database_errors import is_unreadable
from services.chassis.data.seals import NotSealed, Seals, seals_of
from services.chassis.data.tables import incarnation
from services.chassis.data.transaction import Tx
from services.escrow.domain.chart import Direction
from services.escrow.domain.journal import Layer, NewEntry, PostingKey
from services.escrow.store import journal
from services.escrow.tables import book_checks, escrow_accounts, journal_entries

ENTRIES = "journal_entries"
_CHECK = "book_checks"
_REFUSALS = "refused_postings"
_AT_ONCE = 500  # entries are read, and looked at, while others wait for this process

_FIND_CHECKED = """
SELECT m.sequence, m.seal, j.seal AS entry_seal, i.incarnation::text
FROM book_checks m JOIN escrow_accounts e USING (org_id, escrow_account_id)
JOIN journal_entries j ON j.escrow_no = e.escrow_no AND j.sequence = m.sequence CROSS JOIN incarnation i
WHERE e.org_id = $1 AND e.escrow_account_id = $2
"""
_FIND_STANDING = """
SELECT e.org_id, e.escrow_account_id, m.sequence, j.seal AS entry_seal, i.incarnation::text
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS m (org_id, escrow_account_id, sequence)
JOIN escrow_accounts e USING (org_id, escrow_account_id)
JOIN journal_entries j ON j.escrow_no = e.escrow_no AND j.sequence = m.sequence CROSS JOIN incarnation i
"""
_LIST_SOURCES = """
SELECT x.org_id, x.escrow_account_id, x.entry_sequence
FROM escrow_accounts e CROSS JOIN LATERAL sources_of(e.escrow_no) AS s (escrow_no)
JOIN escrow_accounts x ON x.escrow_no = s.escrow_no
WHERE e.org_id = $1 AND e.escrow_account_id = $2
"""
_SAVE_CHECKED = """
INSERT INTO book_checks (org_id, escrow_account_id, sequence, seal)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[])
ON CONFLICT (org_id, escrow_account_id) DO UPDATE SET sequence = excluded.sequence, seal = excluded.seal
"""

# What the seal covers of an entry beside its key, its type and its legs.
_SEALED = (
    "org_id",
    "escrow_account_id",
    "journal_entry_id",
    "transaction_id",
    "investment_id",
    "distribution_id",
    "reverses_journal_entry_id",
    "created_by",
)
_of_entry, _of_row = attrgetter(*_SEALED), itemgetter(*_SEALED)
_of_leg = itemgetter("kind", "party_id", "debit", "pending", "amount_minor")

Place = tuple[str, str]  # organization, escrow account
FIRST: Place = ("", "")
# The first and the last number that a transaction gave to entries of each escrow account. Without its commit they go
# to others.
Booked = dict[Place, tuple[int, int]]


def seal_entry(seals: Seals, entry: NewEntry) -> bytes:
    """The seal of an entry that is about to be booked. When it is booked, and under which number, the book decides."""
    legs = [
        (kind, party_id, direction is Direction.DEBIT, layer is Layer.PENDING, amount_minor)
        for (kind, party_id), direction, amount_minor, layer in entry.legs
    ]
    return seals.make_spelled(ENTRIES, _spell_entry(_of_entry(entry), entry.key, entry.type.value, legs))


def seal_refusal(seals: Seals, entry: NewEntry) -> bytes:
    """What a refusal of the entry is kept with, and found by when the request comes again.

    It says who asked and not what for, so that another request under the same key is told from the first.
    """
    return seals.make_spelled(_REFUSALS, f"{entry.key.key.hex} {entry.org_id}".encode())


def check_entry(seals: Seals, legs: Sequence[Any]) -> None:
    """Returns if this service booked the entry of which these are all legs. Raises: NotSealed."""
    head = legs[0]
    key = PostingKey(head["request_key"], head["fingerprint"])
    spelled = _spell_entry(_of_row(head), key, head["type"], list(map(_of_leg, legs)))
    seals.check_spelled(head["seal"], ENTRIES, f"{head['escrow_account_id']} {head['journal_sequence']}", spelled)


def _spell_entry(named: Sequence[str | None], key: PostingKey, entry_type: str, legs: Sequence[Any]) -> bytes:
    """What the seal of an entry covers; a leg is its kind, party, side, layer and amount."""
    return orjson.dumps((named, key.key.hex, key.fingerprint.hex(), entry_type, legs))


async def check_book(tx: Tx, escrow_account_id: str, last: int) -> None:
    """Returns if this service booked every entry of the escrow account up to that number. Raises: NotSealed."""
    place = current_principal().org_id, escrow_account_id
    await Checks(seals_of(tx)).check(tx.driver, place, last)


async def check_whole_book(tx: Tx, escrow_account_id: str) -> None:
    """Returns if this service booked all that the escrow account has.

    Whoever makes an entry or a decision of its balances asks for this under its lock. Raises: NotSealed.
    """
    account, seals = escrow_accounts.c, seals_of(tx)
    place = account.org_id == current_principal().org_id, account.escrow_account_id == escrow_account_id
    row = (await tx.execute(_select_checks().where(*place))).one()
    known = _known_of(seals, row)
    await _check_entries(tx.driver, seals, _place_of(row), known, row.entry_sequence)


async def list_altered_books(tx: Tx, escrow_account_id: str) -> list[str]:
    """The escrow account, and those that money of it was transferred from, in which entries stand that this service did
    not book: by their balances nobody decides.
    """
    altered = [] if await _is_whole(tx, escrow_account_id) else [escrow_account_id]
    place = current_principal().org_id, escrow_account_id
    for _, source, _ in await tx.driver.fetch(_LIST_SOURCES, *place):
        altered += [] if await _is_whole(tx, source) else [source]
    return altered


async def _is_whole(tx: Tx, escrow_account_id: str) -> bool:
    try:
        await check_whole_book(tx, escrow_account_id)
    except NotSealed:  # in the log
        return False
    return True


def check_entries(tx: Tx, booked: Sequence[journal.BookedEntry]) -> Sequence[journal.BookedEntry]:
    """The entries, if this service booked each of them. Raises: NotSealed."""
    for entry in booked:
        check_entry(seals_of(tx), entry.rows)
    return booked


_KEY = sa.tuple_(escrow_accounts.c.org_id, escrow_accounts.c.escrow_account_id)


class Unchecked(NamedTuple):
    """An escrow account of which entries are to be looked at: those after `known`, up to `last`."""

    place: Place
    known: int
    last: int


async def list_unchecked(tx: Tx, after: Place, most: int) -> tuple[list[Unchecked], Place]:
    """The next escrow accounts with entries that were not looked at; and the last of them."""
    entries = escrow_accounts.c.entry_sequence
    query = _select_checks().where(after < _KEY, entries > sa.func.coalesce(book_checks.c.sequence, 0))
    rows = (await tx.execute(query.order_by(_KEY).limit(most))).all()
    found = [Unchecked(_place_of(row), _known_of(seals_of(tx), row), row.entry_sequence) for row in rows]
    return found, _place_of(rows[-1]) if rows else FIRST


async def list_unsealed(tx: Tx, after: Place, most: int) -> tuple[list[Unchecked], Place]:
    """Of the next escrow accounts those of which somebody else says that they were looked at; and the last of all."""
    query = _select_checks().where(after < _KEY, book_checks.c.sequence.is_not(None)).order_by(_KEY).limit(most)
    rows = (await tx.execute(query)).all()
    seals = seals_of(tx)
    found = [Unchecked(_place_of(row), 0, row.entry_sequence) for row in rows if _known_of(seals, row) == 0]
    return found, _place_of(rows[-1]) if rows else FIRST


def _select_checks() -> sa.Select[Any]:
    known, account = book_checks.c, escrow_accounts.c
    same = sa.and_(known.org_id == account.org_id, known.escrow_account_id == account.escrow_account_id)
    entry = journal_entries.c
    stands_on = sa.and_(entry.escrow_no == account.escrow_no, entry.sequence == known.sequence)
    query = sa.select(
        *(account.org_id, account.escrow_account_id, account.entry_sequence, known.sequence, known.seal),
        entry.seal.label("entry_seal"),
        sa.cast(incarnation.c.incarnation, sa.Text).label("incarnation"),
    )
    marks = sa.outerjoin(escrow_accounts, book_checks, same).outerjoin(journal_entries, stands_on)
    return query.select_from(marks.join(incarnation, sa.true()))


def _place_of(row: Any) -> Place:
    return row.org_id, row.escrow_account_id


def _known_of(seals: Seals, row: Any) -> int:
    """Up to which entry this service says that all were looked at."""
    if row.sequence is None or row.sequence > row.entry_sequence:
        return 0
    return row.sequence if seals.are_sealed(row.seal, _CHECK, *_spell_mark(_place_of(row), row._mapping)) else 0


def _spell_mark(place: Place, mark: Mapping[Any, Any]) -> Sequence[Any]:
    """What the seal of a mark covers: its number, and the entry and the database that it is about."""
    return (*place, mark["sequence"], mark["entry_seal"], mark["incarnation"])


async def check_each(
    connection: Connection, seals: Seals, unchecked: Iterable[Unchecked]
) -> dict[Place, NotSealed | None]:
    """Looks at entries of escrow accounts, not too many at once, and remembers up to which all are ours.

    Returns: Each account that it looked at, with what is not ours of it.
    """
    room, spans = _AT_ONCE, dict[Place, range]()
    for place, known, last in unchecked:
        spans[place] = range(known + 1, min(last, known + room) + 1)
        room -= len(spans[place])
    entries: dict[Place, list[list[Record]]] = defaultdict(list)
    for number, legs in groupby(await _list_legs(connection, spans), key=_number_of):
        entries[number[:2]].append(list(legs))
    found, sound = dict[Place, NotSealed | None](), []
    for place, span in sorted((place, span) for place, span in spans.items() if span):
        try:
            _check_span(seals, place, span, entries[place])
        except NotSealed as refusal:
            found[place] = refusal
        else:
            found[place] = None
            sound.append((*place, span[-1]))
    if sound:
        await save_checked(connection, seals, sound)
    return found


async def save_checked(connection: Connection, seals: Seals, marks: Sequence[tuple[str, str, int]]) -> None:
    """Remembers up to which entry each escrow account was looked at: (organization, escrow account, number)."""
    standing = await connection.fetch(_FIND_STANDING, *map(list, zip(*marks, strict=True)))
    made = [(*row[:3], seals.make(_CHECK, *_spell_mark(row[:2], row))) for row in standing]
    await connection.execute(_SAVE_CHECKED, *map(list, zip(*made, strict=True)))


async def _list_legs(connection: Connection, spans: Mapping[Place, range]) -> list[Record]:
    """The legs of these entries; none of an escrow account of which one cannot be read."""
    numbers = [(*place, number) for place, span in spans.items() for number in span]
    try:
        return await journal.list_booked_legs(connection, numbers)
    except Exception as error:
        if not is_unreadable(error):
            raise
    if len(spans) == 1:
        return []
    return [leg for place, span in spans.items() for leg in await _list_legs(connection, {place: span})]


def _check_span(seals: Seals, place: Place, span: range, entries: Sequence[Sequence[Record]]) -> None:
    """Returns if these are the entries of the span, and all ours. Raises: NotSealed."""
    for legs in entries:
        check_entry(seals, legs)
    if len(entries) < len(span):
        seals.refuse(ENTRIES, f"{place[1]} {span[0]} to {span[-1]}")


def _number_of(leg: Record) -> tuple[str, str, int]:
    return leg["org_id"], leg["escrow_account_id"], leg["journal_sequence"]


class Checks:
    """What is known of the book to be ours, by escrow account."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals
        self._known: dict[Place, int] = {}

    async def check_before(self, connection: Connection, booked: Booked, places: Iterable[Place]) -> None:
        """Returns if all that these escrow accounts had before their new entries is ours, and all that those have that
        money was transferred from: what is owed there keeps a payee from being paid here.

        Raises: NotSealed.
        """
        for place in places:
            await self.check(connection, place, booked[place][0] - 1)
            for org_id, escrow_account_id, last in await connection.fetch(_LIST_SOURCES, *place):
                source = org_id, escrow_account_id
                first, _ = booked.get(source, (last + 1, 0))
                await self.check(connection, source, min(first - 1, last))

    def keep(self, booked: Booked) -> None:
        """What was booked is committed, so it need not be looked at where all before it was."""
        for place, (first, last) in booked.items():
            if self._known.get(place) == first - 1:
                self._known[place] = last

    async def check(self, connection: Connection, place: Place, last: int) -> None:
        known = self._known.get(place)
        if known is None:
            known = await _read_checked(connection, self._seals, place)
        await _check_entries(connection, self._seals, place, known, last)
        self._known[place] = max(known, last)


async def _read_checked(connection: Connection, seals: Seals, place: Place) -> int:
    found = await connection.fetchrow(_FIND_CHECKED, *place)
    if found is None or not seals.are_sealed(found["seal"], _CHECK, *_spell_mark(place, found)):
        return 0
    last: int = found["sequence"]
    return last


async def _check_entries(connection: Connection, seals: Seals, place: Place, after: int, last: int) -> None:
    while after < last:
        span = range(after + 1, min(last, after + _AT_ONCE) + 1)
        rows = await _list_legs(connection, {place: span})
        _check_span(seals, place, span, [list(legs) for _, legs in groupby(rows, key=_number_of)])
        after = span[-1]
