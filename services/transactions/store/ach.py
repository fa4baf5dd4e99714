"""Entries for files of the ACH network, and the files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.database import Database
from services.chassis.data.locks import lock_name
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import compile_for_all
from services.chassis.data.seals import NotSealed, check_read_row, keep_readable, keep_sealed
from services.chassis.data.sql import Row, build_rows
from services.chassis.data.transaction import Tx
from services.transactions.domain.ach import (
    ACKNOWLEDGED,
    ENTRY_CLASSES,
    ENTRY_MOVES,
    FILE_MOVES,
    AchEntry,
    AchFile,
    EntryKind,
    EntryStatus,
    FileStatus,
    PaymentEntry,
    ReversalEntry,
)
from services.transactions.domain.bank_accounts import HolderType
from services.transactions.tables.ach import ach_entries, ach_files

_e, _f = ach_entries.c, ach_files.c
V = TypeVar("V")
_Pages = AsyncIterator[Sequence[Row]]


def _read_entry(row: Row) -> AchEntry:
    kind = ENTRY_CLASSES[EntryKind(row.kind)]
    return read_fields(kind, row, status=EntryStatus(row.status), holder_type=HolderType(row.holder_type))


def _list_entry_columns(entry: AchEntry) -> dict[str, Any]:
    said = {"kind": entry.kind.value, "status": entry.status.value, "holder_type": entry.holder_type.value}
    return list_columns(ach_entries, entry, **said)


ENTRIES = Aggregate(
    ach_entries,
    "ach_entry_id",
    _read_entry,
    _list_entry_columns,
    ENTRY_MOVES,
)
FILES = Aggregate(
    ach_files,
    "ach_file_id",
    lambda row: read_fields(AchFile, row, status=FileStatus(row.status)),
    lambda file: list_columns(ach_files, file, status=file.status.value),
    FILE_MOVES,
)
_WAITING = compile_for_all(
    sa.select(_e.org_id).distinct().where(_e.status == "WAITING", _e.created_at < sa.bindparam("before"))
)
_IS_HERE = _f.status.in_(["MADE", "RELEASED"])
_NOT_LEFT = compile_for_all(sa.select(_f.org_id).distinct().where(_IS_HERE))
_BY_ID = compile_for_all(sa.select(ach_entries).where(_e.ach_entry_id == sa.bindparam("ach_entry_id")))
_FILE_BY_ID = compile_for_all(sa.select(ach_files).where(_f.ach_file_id == sa.bindparam("ach_file_id")))
_THESE = compile_for_all(
    sa.select(ach_files).where(_f.ach_file_id == sa.any_(sa.bindparam("ach_file_ids", type_=pg.ARRAY(sa.Text))))
)
_THESE_ENTRIES = compile_for_all(
    sa.select(ach_entries).where(_e.ach_entry_id == sa.any_(sa.bindparam("ach_entry_ids", type_=pg.ARRAY(sa.Text))))
)
_REVERSING = compile_for_all(sa.select(ach_entries).where(_e.reversed_entry_id == sa.bindparam("reversed_entry_id")))
_PAGE = 1_000


def _compile_page(condition: sa.ColumnElement[bool], *order: sa.Column[Any]) -> tuple[str, list[str]]:
    """Files of any organization behind the one that has these values, in an order that no two share."""
    behind = sa.tuple_(*(sa.bindparam(column.name, type_=column.type) for column in order))
    found = sa.select(ach_files).where(condition, sa.tuple_(*order) > behind)
    return compile_for_all(found.order_by(*order).limit(_PAGE))


_HAS_LEFT = _f.left_at.is_not(None)
_NOT_FETCHED = _compile_page(sa.and_(_HAS_LEFT, _f.fetched_at.is_(None)), _f.ach_file_id, _f.org_id)
_BY_DAY = _f.created_on, _f.org_id, _f.ach_file_id
_ANSWERED = _compile_page(sa.and_(_f.is_acknowledged, _f.status.in_(sorted(ACKNOWLEDGED))), *_BY_DAY)
_UNANSWERED = _compile_page(sa.and_(_f.is_acknowledged, _f.status == "LEFT"), *_BY_DAY)
_BY_TRACE = compile_for_all(  # an organization has a number once
    sa.select(ach_entries)
    .where(_e.trace_no == sa.bindparam("trace_no"), _e.org_id > sa.bindparam("org_id"))
    .order_by(_e.org_id)
    .limit(_PAGE)
)


async def list_organizations(database: Database, before: datetime) -> list[str]:
    """Who has entries that were ordered before this moment and wait, or files that have not left."""
    waiting = await database.send_for_all(_WAITING[0], before)
    not_left = await database.send_for_all(_NOT_LEFT[0])
    return sorted({row["org_id"] for row in (*waiting, *not_left)})


async def find_anybodys_entry(database: Database, ach_entry_id: str) -> AchEntry | None:
    """Of whatever organization. Raises: NotSealed."""
    found = build_rows(await database.send_for_all(_BY_ID[0], ach_entry_id))
    check = partial(check_read_row, database.seals, ach_entries)
    return None if not found else _read_entry(check(found[0]))


async def find_anybodys_reversal(database: Database, reversed_entry_id: str) -> ReversalEntry | None:
    """Which takes this entry back, of whatever organization. What this service did not write takes nothing back: it is
    in no file.
    """
    found = build_rows(await database.send_for_all(_REVERSING[0], reversed_entry_id))
    ours = keep_readable(found, partial(check_read_row, database.seals, ach_entries))
    return next((entry for entry in map(_read_entry, ours) if isinstance(entry, ReversalEntry)), None)


async def find_anybodys_file(database: Database, ach_file_id: str) -> AchFile | None:
    """Of whatever organization. Raises: NotSealed."""
    found = build_rows(await database.send_for_all(_FILE_BY_ID[0], ach_file_id))
    check = partial(check_read_row, database.seals, ach_files)
    return None if not found else FILES.read(check(found[0]))


async def list_anybodys_files(
    database: Database, ach_file_ids: Sequence[str]
) -> tuple[list[tuple[str, AchFile]], Mapping[str, str]]:
    """Those of them that this service has made, of any organization, each with whose it is; and whose those are of
    which a row says something else than it wrote, by their ids.
    """
    if not ach_file_ids:
        return [], {}
    found = build_rows(await database.send_for_all(_THESE[0], list(ach_file_ids)))
    ours = _keep_ours(database, FILES, found)
    made = {file.ach_file_id for _, file in ours}
    return ours, {row.ach_file_id: row.org_id for row in found if row.ach_file_id not in made}


async def list_not_fetched(database: Database) -> list[tuple[str, AchFile]]:
    """What has left, and was never found gone, of any organization, each with whose it is."""
    return await _list_ours(database, FILES, _read_pages(database, _NOT_FETCHED, ach_file_id="", org_id=""))


async def list_acknowledgeable(database: Database, since: date) -> list[tuple[str, AchFile]]:
    """What left and the bank says something of, however long ago that was, or did, of any organization: as far as this
    service wrote it.

    Args:
        since: What the bank said of older ones is not listed.
    """
    found = await _list_ours(database, FILES, _read_acknowledgeable(database, since))
    # What is answered between the pages is in both, and later in the second.
    return list({(org_id, file.ach_file_id): (org_id, file) for org_id, file in found}.values())


async def list_altered_acknowledgeable(
    database: Database, since: date, may_be: Callable[[str, AchFile], Awaitable[bool]]
) -> list[tuple[str, AchFile, NotSealed]]:
    """As `list_acknowledgeable`, of what this service did not write, or not so.

    Args:
        may_be: Whether it is asked for. What no login may change of a row may be made up with the row all the same.
    """
    return await _list_altered(database, FILES, _read_acknowledgeable(database, since), may_be)


async def _read_acknowledgeable(database: Database, since: date) -> _Pages:
    for asked, first in ((_UNANSWERED, date.min), (_ANSWERED, since)):
        async for found in _read_pages(database, asked, created_on=first, org_id="", ach_file_id=""):
            yield found


async def list_by_trace(database: Database, trace_no: int) -> list[tuple[str, AchEntry]]:
    """The entries of any organization with this number, as far as this service wrote them, each with whose it is."""
    return await _list_ours(database, ENTRIES, _read_pages(database, _BY_TRACE, trace_no=trace_no, org_id=""))


async def list_altered_by_trace(
    database: Database, trace_no: int, may_be: Callable[[str, AchEntry], Awaitable[bool]]
) -> list[tuple[str, AchEntry, NotSealed]]:
    """As `list_by_trace`, of what this service did not write, or not so.

    Args:
        may_be: As of `list_altered_acknowledgeable`.
    """
    pages = _read_pages(database, _BY_TRACE, trace_no=trace_no, org_id="")
    return await _list_altered(database, ENTRIES, pages, may_be)


async def has_altered(database: Database) -> bool:
    """Whether entries or files of any organization are altered, of those that somebody has come upon."""
    for table, (text, _) in ((ach_entries, _THESE_ENTRIES), (ach_files, _THESE)):
        ids = [value_id for _, value_id in database.seals.refused.get(table.name, ())]
        found = build_rows(await database.send_for_all(text, ids)) if ids else []
        if len(keep_readable(found, partial(check_read_row, database.seals, table))) < len(found):
            return True
    return False


async def _read_pages(database: Database, page: tuple[str, list[str]], **asked: Any) -> _Pages:
    """However many rows somebody made up, it goes through them.

    Args:
        asked: What the query is given: the values that a page begins behind among it.
    """
    text, names = page
    while True:
        found = build_rows(await database.send_for_all(text, *map(asked.__getitem__, names)))
        yield found
        if len(found) < _PAGE:
            return
        asked |= {name: found[-1]._mapping[name] for name in asked}


async def _list_ours(database: Database, of: Aggregate[V], pages: _Pages) -> list[tuple[str, V]]:
    return [each async for found in pages for each in _keep_ours(database, of, found)]


def _keep_ours(database: Database, of: Aggregate[V], found: Sequence[Row]) -> list[tuple[str, V]]:
    ours = keep_readable(found, partial(check_read_row, database.seals, of.table))
    return [(row.org_id, of.read(row)) for row in ours]


async def _list_altered(
    database: Database, of: Aggregate[V], pages: _Pages, may_be: Callable[[str, V], Awaitable[bool]]
) -> list[tuple[str, V, NotSealed]]:
    altered = []
    async for found in pages:
        for row in found:
            try:
                check_read_row(database.seals, of.table, row)
            except NotSealed as error:  # in the log
                value = of.read(row)
                if await may_be(row.org_id, value):
                    altered.append((row.org_id, value, error))
    return altered


async def list_traces(tx: Tx, wanted: Sequence[int]) -> set[int]:
    """Which of these numbers an entry of the organization has already."""
    return set(await tx.scalars(sa.select(_e.trace_no).where(is_mine(ach_entries), _e.trace_no.in_(wanted))))


async def list_attempts(tx: Tx, transaction_id: str) -> list[PaymentEntry]:
    """At a transaction, newest first. Raises: NotSealed."""
    found = await ENTRIES.list_all(tx, _e.transaction_id == transaction_id)
    attempts = [each for each in found if isinstance(each, PaymentEntry)]
    return sorted(attempts, key=lambda each: (each.created_at, each.ach_entry_id), reverse=True)


async def find_attempt(tx: Tx, provider_key: str) -> PaymentEntry | None:
    """That was ordered under this key. Raises: NotSealed."""
    found = await ENTRIES.list_all(tx, _e.provider_key == provider_key)
    return next((each for each in found if isinstance(each, PaymentEntry)), None)


async def list_of_account(tx: Tx, entry: AchEntry) -> list[tuple[AchEntry, AchFile | None]]:
    """The other entries of its bank account that go its way, each with its file. Raises: NotSealed."""
    which = _e.bank_account_id == entry.bank_account_id, _e.is_inbound == entry.is_inbound
    found = [each for each in await ENTRIES.list_all(tx, *which) if each.ach_entry_id != entry.ach_entry_id]
    ids = {each.ach_file_id for each in found if each.ach_file_id is not None}
    files = {each.ach_file_id: each for each in await FILES.list_all(tx, _f.ach_file_id.in_(ids))} if ids else {}
    return [(each, files.get(each.ach_file_id or "")) for each in found]


async def list_waiting(tx: Tx, before: datetime) -> list[AchEntry]:
    """What was ordered before this moment and waits, as far as this service wrote it."""
    waiting = await ENTRIES.list_ours(tx, _e.status == "WAITING", _e.created_at < before)
    return sorted(waiting, key=lambda each: (each.created_at, each.ach_entry_id))


async def lock_files(tx: Tx) -> None:
    """So that one makes files for the organization."""
    await lock_name(tx, "ach_files")


async def list_not_left(tx: Tx) -> list[AchFile]:
    """What this service did not write keeps nothing else from going."""
    return await FILES.list_ours(tx, _IS_HERE)


async def count_files(tx: Tx, created_on: date) -> int:
    """How many of the day this service has made; the caller has `lock_files`.

    Among them those that somebody altered since: an entry of ours names each, and none that somebody made up.
    """
    of_day = sa.select(ach_files).where(is_mine(ach_files), _f.created_on == created_on)
    found = (await tx.execute(of_day)).all()
    made = {row.ach_file_id for row in keep_sealed(tx, ach_files, found)}
    altered = {row.ach_file_id for row in found} - made
    named = await ENTRIES.list_ours(tx, _e.ach_file_id.in_(altered)) if altered else []
    return len(made) + len({entry.ach_file_id for entry in named})


async def list_entries_of(tx: Tx, file: AchFile) -> Sequence[AchEntry]:
    """Those that this service wrote, and did not withdraw: whoever writes one more adds nothing to the file."""
    return await ENTRIES.list_ours(tx, _e.ach_file_id == file.ach_file_id, _e.status != "WITHDRAWN")


async def read_all_entries_of(tx: Tx, file: AchFile) -> Sequence[AchEntry]:
    """Raises: NotSealed: one of those that were put into it is not as this service wrote it."""
    found = await list_entries_of(tx, file)
    if len(found) != file.entry_count:
        raise NotSealed(ach_entries.name, f"of {file.ach_file_id}")
    return found
