"""Rows that are read many at a time, of which one may hold what no program can read.

None of ours is, but PostgreSQL keeps times and JSON that Python cannot read, and whoever writes one past the service
would hide the rows beside it from whoever looks at them all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_unreadable
from services.chassis.data.seals import NotSealed, keep_sealed, key_of, refuse_row, seals_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx

_PAGE_ROWS = 1_000


class Found(NamedTuple):
    """What a query found.

    Args:
        keys: Of all rows, in the order of the query.
        unreadable: The keys of those that cannot be read.
    """

    rows: list[Row]
    keys: list[tuple[Any, ...]]
    unreadable: list[tuple[Any, ...]]


async def find_rows(tx: Tx, table: sa.Table, query: sa.Select[Any]) -> Found:
    """Whole rows of the table: each by itself where one cannot be read, without a word in the log."""
    try:
        rows = list((await tx.execute(query)).all())
        return Found(rows, [key_of(table, row) for row in rows], [])
    except Exception as error:
        if not is_unreadable(error):
            raise
    key = list(table.primary_key.columns)
    found = Found([], [tuple(row) for row in await tx.execute(query.with_only_columns(*key))], [])
    for each in found.keys:
        one = sa.select(table).where(*(column == value for column, value in zip(key, each, strict=True)))
        try:
            found.rows.append((await tx.execute(one)).one())
        except Exception as error:
            if not is_unreadable(error):
                raise
            found.unreadable.append(each)
    return found


async def list_readable(tx: Tx, table: sa.Table, query: sa.Select[Any]) -> list[Row]:
    """The rows that can be read. The others are not ours: they are in the log, and wait for an operator."""
    found = await find_rows(tx, table, query)
    for key in found.unreadable:
        with suppress(NotSealed):
            refuse_row(seals_of(tx), table, key)
    return found.rows


async def find_sealed(tx: Tx, table: sa.Table, query: sa.Select[Any]) -> Found:
    """As `find_rows`, with the rows alone that are ours. The others are in the log, and wait for an operator."""
    found = await find_rows(tx, table, query)
    for key in found.unreadable:
        with suppress(NotSealed):
            refuse_row(seals_of(tx), table, key)
    return found._replace(rows=keep_sealed(tx, table, found.rows))


async def iterate_sealed(
    database: Database, table: sa.Table, condition: sa.ColumnElement[bool]
) -> AsyncIterator[list[Row]]:
    """The rows of all organizations that are ours, a page at a time in the order of their keys, each in a transaction
    of its own: however many somebody made up, no statement runs for long, and nobody else waits until all are checked.
    """
    key, last = list(table.primary_key.columns), None
    while True:
        query = sa.select(table).where(condition).order_by(*key).limit(_PAGE_ROWS)
        if last is not None:
            query = query.where(sa.tuple_(*key) > sa.tuple_(*last))
        async with database.begin_for_all() as tx:
            found = await find_sealed(tx, table, query)
        yield found.rows
        if len(found.keys) < _PAGE_ROWS:
            return
        last = found.keys[-1]
