"""How far a service has handled each stream that it hears, written in the transaction that handles a message.

Where a consumer is made anew, it begins there. So a position is sealed: who has a login of the database and moves it on
would have events passed over. And it is of one incarnation of the database and of one stream: one that was kept from
before a restore, or from before the stream was made anew, has its seal, and counts for nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.incarnation import INCARNATION, read_incarnation
from services.chassis.data.seals import NotSealed, check_row, seal_of
from services.chassis.data.tables import handled_positions
from services.chassis.values.position import Lives, Position

_c = handled_positions.c
_KEY = ("consumer", "stream")


class OutOfTurn(Exception):
    """The message is not the next one: the consumer is another one of the name, or a message before it never came."""


def _build_recording() -> sa.Executable:
    """Takes a position one message further; returns it as it was."""
    mine = (_c.consumer == sa.bindparam("of_consumer"), _c.stream == sa.bindparam("of_stream"))
    before = sa.select(handled_positions).where(*mine).with_for_update().cte("before")
    living = (before.c.incarnation == sa.bindparam("living"), before.c.incarnation == INCARNATION)
    return (
        sa.update(handled_positions)
        .where(_c.consumer == before.c.consumer, _c.stream == before.c.stream)
        .where(before.c.consumer_sequence < sa.bindparam("delivery"))
        .where(before.c.stream_sequence >= sa.bindparam("message") - 1)
        .where(*living, before.c.stream_created == sa.bindparam("created"))
        .values(
            stream_sequence=sa.bindparam("message"),
            consumer_sequence=sa.bindparam("delivery"),
            seal=sa.bindparam("new_seal"),
        )
        .returning(*before.c)
    )


_RECORDING = _build_recording()


async def record_position(tx: AsyncConnection, consumer: str, stream: str, position: Position) -> None:
    """Every message of the stream before it is handled, too: a consumer hears all of it, and hands out one at a time.

    Raises:
        OutOfTurn: a later delivery was handled before, or the message before it was not, or nobody knows: what is known
            is of another incarnation of the database, or of another stream.
    """
    values = _values(consumer, stream, position)
    said = {
        "of_consumer": consumer,
        "of_stream": stream,
        "message": position.stream_sequence,
        "delivery": position.consumer_sequence,
        "living": position.lives.incarnation,
        "created": position.lives.stream_created,
        "new_seal": seal_of(tx, handled_positions, values),
    }
    before = (await tx.execute(_RECORDING, said)).one_or_none()
    if before is None:
        raise OutOfTurn
    try:
        check_row(tx, handled_positions, before)
    except NotSealed as moved:
        raise OutOfTurn from moved


async def begin_position(tx: AsyncConnection, consumer: str, stream: str, created: str, before: int, last: int) -> None:
    """A consumer that is new on the stream needs nothing of it up to `before`. Does nothing where its position counts.

    Args:
        created: When the stream was made.
        last: The last message that it has. A position beyond it counts for nothing.
    """
    row, changed = await _inserting(tx, consumer, stream, created, before)
    is_other = sa.tuple_(_c.incarnation, _c.stream_created) != sa.tuple_(
        row.excluded.incarnation, row.excluded.stream_created
    )
    counts_not = sa.or_(is_other, _c.stream_sequence > last)
    await tx.execute(row.on_conflict_do_update(index_elements=_KEY, set_=changed, where=counts_not))


async def set_position(tx: AsyncConnection, consumer: str, stream: str, created: str, stream_sequence: int) -> None:
    """Has everything up to this message pass for handled, whatever the row said: a person decides that."""
    row, changed = await _inserting(tx, consumer, stream, created, stream_sequence)
    await tx.execute(row.on_conflict_do_update(index_elements=_KEY, set_=changed))


async def _inserting(
    tx: AsyncConnection, consumer: str, stream: str, created: str, stream_sequence: int
) -> tuple[pg.Insert, dict[str, Any]]:
    """The position in this life of the database; and what it changes of the one that is there."""
    lives = Lives(await read_incarnation(tx), created)
    values = _values(consumer, stream, Position(stream_sequence, lives=lives))
    row = pg.insert(handled_positions).values(**values, seal=seal_of(tx, handled_positions, values))
    return row, {name: row.excluded[name] for name in (*values, "seal") if name not in _KEY}


def _values(consumer: str, stream: str, position: Position) -> dict[str, Any]:
    return {
        "consumer": consumer,
        "stream": stream,
        "stream_sequence": position.stream_sequence,
        "consumer_sequence": position.consumer_sequence,
        "incarnation": position.lives.incarnation,
        "stream_created": position.lives.stream_created,
    }


async def record_held(tx: AsyncConnection, consumer: str, stream: str, delivery: int, seconds: float) -> None:
    """A process of ours is working on this delivery, and says so again before the time is over."""
    until = sa.func.clock_timestamp() + sa.literal(seconds) * sa.text("interval '1 second'")
    held = sa.update(handled_positions).where(_c.consumer == consumer, _c.stream == stream)
    await tx.execute(held.values(held_sequence=delivery, held_until=until))


async def find_position(tx: AsyncConnection, consumer: str, stream: str) -> Position | None:
    """None where it was not begun in this life of the database. Of which stream it is, it says. Raises: NotSealed."""
    held = sa.case((_c.held_until > sa.func.clock_timestamp(), _c.held_sequence), else_=0).label("held")
    query = sa.select(handled_positions, held, INCARNATION.label("living")).where(
        _c.consumer == consumer, _c.stream == stream
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return None
    check_row(tx, handled_positions, row)
    if row.incarnation != row.living:
        return None
    lives = Lives(row.incarnation, row.stream_created)
    return Position(row.stream_sequence, row.consumer_sequence, row.held, lives)


async def count_deliveries_from(
    tx: AsyncConnection, consumer: str, stream: str, reached: Position, consumer_sequence: int
) -> None:
    """The consumer was found to be sound and counts anew. Does nothing where a message was handled since `reached`."""
    before = _values(consumer, stream, reached)
    after = before | {"consumer_sequence": consumer_sequence}
    unchanged = [_c[name] == value for name, value in before.items()]
    counted = sa.update(handled_positions).where(*unchanged)
    seal = seal_of(tx, handled_positions, after)
    await tx.execute(counted.values(consumer_sequence=consumer_sequence, seal=seal))
