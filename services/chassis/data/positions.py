"""How far a service has handled each stream that it hears, written in the transaction that handles a message."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.tables import handled_positions


@dataclass(frozen=True, slots=True)
class Position:
    """The last message of a stream that was handled: its number in the stream, and among the deliveries of the
    consumer; and the number of the delivery that a process of ours is working on, if it has been for a while.
    """

    stream_sequence: int = 0
    consumer_sequence: int = 0
    held_sequence: int = 0


class OutOfTurn(Exception):
    """The message is not the next one: the consumer is another one of the name, or a message before it never came."""


async def record_position(tx: AsyncConnection, consumer: str, stream: str, position: Position) -> None:
    """Every message of the stream before it is handled, too: a consumer hears all of it, and hands out one at a time.

    Raises:
        OutOfTurn: a later delivery was handled before, or the message before it was not.
    """
    known = handled_positions.c
    written = await tx.execute(
        sa.update(handled_positions)
        .where(known.consumer == consumer, known.stream == stream)
        .where(known.consumer_sequence < position.consumer_sequence)
        .where(known.stream_sequence >= position.stream_sequence - 1)
        .values(stream_sequence=position.stream_sequence, consumer_sequence=position.consumer_sequence)
    )
    if written.rowcount == 0:
        raise OutOfTurn


async def begin_position(tx: AsyncConnection, consumer: str, stream: str, before: int) -> None:
    """A new consumer needs nothing of the stream up to `before`. Does nothing where its position is known."""
    row = pg.insert(handled_positions).values(
        consumer=consumer, stream=stream, stream_sequence=before, consumer_sequence=0
    )
    await tx.execute(row.on_conflict_do_nothing())


async def record_held(tx: AsyncConnection, consumer: str, stream: str, delivery: int, seconds: float) -> None:
    """A process of ours is working on this delivery, and says so again before the time is over."""
    until = sa.func.clock_timestamp() + sa.literal(seconds) * sa.text("interval '1 second'")
    known = handled_positions.c
    held = sa.update(handled_positions).where(known.consumer == consumer, known.stream == stream)
    await tx.execute(held.values(held_sequence=delivery, held_until=until))


async def find_position(tx: AsyncConnection, consumer: str, stream: str) -> Position | None:
    """None where it was not begun."""
    known = handled_positions.c
    held = sa.case((known.held_until > sa.func.clock_timestamp(), known.held_sequence), else_=0)
    query = sa.select(known.stream_sequence, known.consumer_sequence, held)
    row = (await tx.execute(query.where(known.consumer == consumer, known.stream == stream))).one_or_none()
    return Position(*row) if row is not None else None


async def count_deliveries_from(
    tx: AsyncConnection, consumer: str, stream: str, reached: Position, consumer_sequence: int
) -> None:
    """The consumer was found to be sound and counts anew. Does nothing where a message was handled since `reached`."""
    known = handled_positions.c
    await tx.execute(
        sa.update(handled_positions)
        .where(known.consumer == consumer, known.stream == stream, known.consumer_sequence == reached.consumer_sequence)
        .values(consumer_sequence=consumer_sequence)
    )
