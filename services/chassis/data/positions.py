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
    """The consumer counts its deliveries from a lower number than it had reached: it may be another one of the name."""


async def record_position(tx: AsyncConnection, consumer: str, stream: str, position: Position) -> None:
    """Every message before it is handled, too: a durable consumer hands out one at a time.

    Raises:
        OutOfTurn: a later delivery was handled before.
    """
    numbers = {"stream_sequence": position.stream_sequence, "consumer_sequence": position.consumer_sequence}
    row = pg.insert(handled_positions).values(consumer=consumer, stream=stream, **numbers)
    written = await tx.execute(
        row.on_conflict_do_update(
            index_elements=["consumer", "stream"],
            set_=numbers,
            where=handled_positions.c.consumer_sequence < row.excluded.consumer_sequence,
        )
    )
    if written.rowcount == 0:
        raise OutOfTurn


async def record_held(tx: AsyncConnection, consumer: str, stream: str, delivery: int, seconds: float) -> None:
    """A process of ours is working on this delivery, and says so again before the time is over."""
    until = sa.func.clock_timestamp() + sa.literal(seconds) * sa.text("interval '1 second'")
    told = {"held_sequence": delivery, "held_until": until}
    row = pg.insert(handled_positions).values(
        consumer=consumer, stream=stream, stream_sequence=0, consumer_sequence=0, **told
    )
    await tx.execute(row.on_conflict_do_update(index_elements=["consumer", "stream"], set_=told))


async def find_position(tx: AsyncConnection, consumer: str, stream: str) -> Position:
    """Zeros where nothing of the stream was ever handled."""
    known = handled_positions.c
    held = sa.case((known.held_until > sa.func.clock_timestamp(), known.held_sequence), else_=0)
    query = sa.select(known.stream_sequence, known.consumer_sequence, held)
    row = (await tx.execute(query.where(known.consumer == consumer, known.stream == stream))).one_or_none()
    return Position(*row) if row is not None else Position()


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
