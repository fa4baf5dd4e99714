"""How far a service has handled each stream that it hears: from there it reads on.

It is written in the transaction that handles messages, and nobody else keeps it. So a position is sealed: who has a
login of the database and moves it on would have events passed over. And it is of one incarnation of the database and of
one stream: one that was kept from before a restore, or from before the stream was made anew, has its seal, and counts
for nothing. And it knows the message that it stands on: a stream that was put back to an earlier state has others under
the same numbers soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.database import Database
from services.chassis.data.incarnation import INCARNATION, read_incarnation
from services.chassis.data.seals import NotSealed, Seals, check_read_row, seal_of, seals_of
from services.chassis.data.sql import Row, build_rows
from services.chassis.data.tables import handled_positions
from services.chassis.data.transaction import Tx
from services.chassis.values.position import Position

_c = handled_positions.c
_KEY = ("consumer", "stream")
_MINE = (_c.consumer == sa.bindparam("of_consumer"), _c.stream == sa.bindparam("of_stream"))
_FIND = sa.select(handled_positions, INCARNATION.label("living")).where(*_MINE)
# Who finds it locked has nothing to wait for: another process handles these messages.
_TAKE = _FIND.with_for_update(of=handled_positions, skip_locked=True)
# How a statement ends that waits for a lock: also where each who keeps it hands it on before the wait is over.
KEPT_LOCKED = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
_WAIT = _FIND.with_for_update(of=handled_positions)
_HOLDERS = """
SELECT pid, usename FROM pg_catalog.pg_stat_activity
WHERE pid = ANY(pg_catalog.pg_blocking_pids($1)) ORDER BY pid LIMIT 5
"""
_ASK_SECONDS = 0.1
_LIST = """
SELECT p.*, i.incarnation::text AS living FROM public.handled_positions p CROSS JOIN public.incarnation i
WHERE (p.consumer, p.stream) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
_MOVE = (
    sa.update(handled_positions)
    .where(*_MINE)
    .values({name: sa.bindparam(f"new_{name}") for name in ("stream_sequence", "stored_at", "handlers", "seal")})
)


class OutOfTurn(Exception):
    """The stream is not handled exactly as far as that: another process is at it, or was, or somebody moved it."""


async def find_position(tx: Tx, consumer: str, stream: str) -> Position | None:
    """None where it was not begun in this life of the database. Of which stream it is, it says. Raises: NotSealed."""
    row = (await tx.execute(_FIND, {"of_consumer": consumer, "of_stream": stream})).one_or_none()
    return None if row is None else _read(seals_of(tx), row)


async def list_positions(
    database: Database, asked: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Position | NotSealed | None]:
    """`find_position` of each consumer and stream, by these, in one statement; in the place of one what it raises."""
    found: dict[tuple[str, str], Position | NotSealed | None] = dict.fromkeys(asked)
    consumers, streams = [consumer for consumer, _ in found], [stream for _, stream in found]
    for row in build_rows(await database.send_for_all(_LIST, consumers, streams)):
        try:
            found[row.consumer, row.stream] = _read(database.seals, row)
        except NotSealed as moved:
            found[row.consumer, row.stream] = moved
    return found


def _read(seals: Seals, row: Row) -> Position | None:
    check_read_row(seals, handled_positions, row)
    if row.incarnation != row.living:
        return None
    return Position(row.stream_sequence, row.incarnation, row.stream_created, frozenset(row.handlers), row.stored_at)


async def take_position(tx: Tx, consumer: str, stream: str, position: Position) -> None:
    """Nobody else goes on from there until this transaction ends.

    Raises:
        OutOfTurn: it is not there, or another process has it.
    """
    row = (await tx.execute(_TAKE, {"of_consumer": consumer, "of_stream": stream})).one_or_none()
    try:
        found = None if row is None else _read(seals_of(tx), row)
    except NotSealed as moved:
        raise OutOfTurn from moved
    if found != position:
        raise OutOfTurn


async def find_holders(database: Database, consumer: str, stream: str) -> list[str]:
    """Who keeps the position locked now, as PostgreSQL tells whoever waits for it: `session 4711 of escrow_app`."""
    holders: list[str] = []
    with suppress(*KEPT_LOCKED):
        async with database.begin_for_all() as tx:
            mine = await tx.driver.fetchval("SELECT pg_backend_pid()")
            waiting = asyncio.create_task(tx.execute(_WAIT, {"of_consumer": consumer, "of_stream": stream}))
            while not holders and not waiting.done():
                await asyncio.wait({waiting}, timeout=_ASK_SECONDS)
                found = await database.send_for_all(_HOLDERS, mine)
                holders = [f"session {row['pid']} of {row['usename']}" for row in found]
            await waiting
    return holders


async def move_position(tx: Tx, consumer: str, stream: str, to: Position) -> Position:
    """Everything up to that message is handled, by a release with those handlers. The transaction has taken it."""
    values = _values(consumer, stream, to)
    changed = {f"new_{name}": values[name] for name in ("stream_sequence", "stored_at", "handlers")}
    seal = seal_of(tx, handled_positions, values)
    await tx.execute(_MOVE, {"of_consumer": consumer, "of_stream": stream, **changed, "new_seal": seal})
    return to


async def begin_position(
    tx: Tx, consumer: str, stream: str, created: str, before: int, last: int, handlers: frozenset[str]
) -> Position | None:
    """A consumer that is new on the stream needs nothing of it up to `before`. Does nothing where its position counts.

    Args:
        created: When the stream was made.
        last: The last message that it has. A position beyond it counts for nothing.
    """
    row, changed = await _inserting(tx, consumer, stream, created, before, handlers)
    is_other = sa.tuple_(_c.incarnation, _c.stream_created) != sa.tuple_(
        row.excluded.incarnation, row.excluded.stream_created
    )
    counts_not = sa.or_(is_other, _c.stream_sequence > last)
    await tx.execute(row.on_conflict_do_update(index_elements=_KEY, set_=changed, where=counts_not))
    return await find_position(tx, consumer, stream)


async def set_position(
    tx: Tx, consumer: str, stream: str, created: str, stream_sequence: int, handlers: frozenset[str]
) -> None:
    """Has everything up to this message pass for handled, whatever the row said: a person decides that."""
    row, changed = await _inserting(tx, consumer, stream, created, stream_sequence, handlers)
    await tx.execute(row.on_conflict_do_update(index_elements=_KEY, set_=changed))


async def _inserting(
    tx: Tx, consumer: str, stream: str, created: str, stream_sequence: int, handlers: frozenset[str]
) -> tuple[pg.Insert, dict[str, Any]]:
    """The position in this life of the database; and what it changes of the one that is there."""
    position = Position(stream_sequence, await read_incarnation(tx), created, handlers)
    values = _values(consumer, stream, position)
    row = pg.insert(handled_positions).values(**values, seal=seal_of(tx, handled_positions, values))
    return row, {name: row.excluded[name] for name in (*values, "seal") if name not in _KEY}


def _values(consumer: str, stream: str, position: Position) -> dict[str, Any]:
    return {
        "consumer": consumer,
        "stream": stream,
        "stream_sequence": position.stream_sequence,
        "incarnation": position.incarnation,
        "stream_created": position.stream_created,
        "handlers": sorted(position.handlers),
        "stored_at": position.stored_at,
    }
