"""How far a service has handled each stream that it hears, written in the transaction that handles a message.

Where a consumer is made anew, it begins there. So a position is sealed: who has a login of the database and moves it on
would have events passed over.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.seals import NotSealed, check_row, seal_of
from services.chassis.data.tables import handled_positions
from services.chassis.values.position import Position

_c = handled_positions.c


class OutOfTurn(Exception):
    """The message is not the next one: the consumer is another one of the name, or a message before it never came."""


def _build_recording() -> sa.Executable:
    """Takes a position one message further; returns it as it was."""
    mine = (_c.consumer == sa.bindparam("of_consumer"), _c.stream == sa.bindparam("of_stream"))
    before = sa.select(handled_positions).where(*mine).with_for_update().cte("before")
    return (
        sa.update(handled_positions)
        .where(_c.consumer == before.c.consumer, _c.stream == before.c.stream)
        .where(before.c.consumer_sequence < sa.bindparam("delivery"))
        .where(before.c.stream_sequence >= sa.bindparam("message") - 1)
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
        OutOfTurn: a later delivery was handled before, or the message before it was not, or nobody knows.
    """
    values = _values(consumer, stream, position)
    said = {
        "of_consumer": consumer,
        "of_stream": stream,
        "message": position.stream_sequence,
        "delivery": position.consumer_sequence,
        "new_seal": seal_of(tx, handled_positions, values),
    }
    before = (await tx.execute(_RECORDING, said)).one_or_none()
    if before is None:
        raise OutOfTurn
    try:
        check_row(tx, handled_positions, before)
    except NotSealed as moved:
        raise OutOfTurn from moved


async def begin_position(tx: AsyncConnection, consumer: str, stream: str, before: int) -> None:
    """A new consumer needs nothing of the stream up to `before`. Does nothing where its position is known."""
    await tx.execute(_inserting(tx, consumer, stream, Position(before)).on_conflict_do_nothing())


async def set_position(tx: AsyncConnection, consumer: str, stream: str, stream_sequence: int) -> None:
    """Has everything up to this message pass for handled, whatever the row said: a person decides that."""
    row = _inserting(tx, consumer, stream, Position(stream_sequence))
    changed = {name: row.excluded[name] for name in ("stream_sequence", "consumer_sequence", "seal")}
    await tx.execute(row.on_conflict_do_update(index_elements=["consumer", "stream"], set_=changed))


def _inserting(tx: AsyncConnection, consumer: str, stream: str, position: Position) -> pg.Insert:
    values = _values(consumer, stream, position)
    return pg.insert(handled_positions).values(**values, seal=seal_of(tx, handled_positions, values))


def _values(consumer: str, stream: str, position: Position) -> dict[str, Any]:
    return {
        "consumer": consumer,
        "stream": stream,
        "stream_sequence": position.stream_sequence,
        "consumer_sequence": position.consumer_sequence,
    }


async def record_held(tx: AsyncConnection, consumer: str, stream: str, delivery: int, seconds: float) -> None:
    """A process of ours is working on this delivery, and says so again before the time is over."""
    until = sa.func.clock_timestamp() + sa.literal(seconds) * sa.text("interval '1 second'")
    held = sa.update(handled_positions).where(_c.consumer == consumer, _c.stream == stream)
    await tx.execute(held.values(held_sequence=delivery, held_until=until))


async def find_position(tx: AsyncConnection, consumer: str, stream: str) -> Position | None:
    """None where it was not begun. Raises: NotSealed."""
    held = sa.case((_c.held_until > sa.func.clock_timestamp(), _c.held_sequence), else_=0).label("held")
    query = sa.select(handled_positions, held).where(_c.consumer == consumer, _c.stream == stream)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return None
    check_row(tx, handled_positions, row)
    return Position(row.stream_sequence, row.consumer_sequence, row.held)


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
