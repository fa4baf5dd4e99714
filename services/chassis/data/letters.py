"""Dead letters: the events that a consumer could not handle, kept by its service until a person has seen to them.

A letter is written in the transaction that passes its event by, and nothing on NATS has a part in it: who has a
service's password there can neither take a letter away nor stand in for one. Letters, and what was done about them,
are only added and are sealed: who has a login of the database can add what counts for nothing, and remove nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.data.readable import list_readable
from services.chassis.data.seals import check_row, keep_sealed, seal_of
from services.chassis.data.tables import dead_letters, seen_letters
from services.chassis.data.transaction import Tx
from services.chassis.values.ids import uuid7

_letters, _seen = dead_letters.c, seen_letters.c


@dataclass(frozen=True, slots=True)
class Letter:
    """An event as it came, and why it was set aside."""

    consumer: str
    stream: str
    stream_sequence: int
    subject: str
    headers: Mapping[str, str]
    data: bytes
    cause: str
    attempts: int
    set_aside_at: datetime
    letter_id: str = ""


class Outcome(StrEnum):
    """What a person did about a letter."""

    REPLAYED = "REPLAYED"
    DISMISSED = "DISMISSED"


async def set_aside(tx: Tx, letter: Letter) -> bool:
    """Keeps the letter; False where an earlier delivery of the same message left one.

    The transaction holds the consumer's position, so it is alone.
    """
    same = sa.select(dead_letters).where(
        _letters.consumer == letter.consumer,
        _letters.stream == letter.stream,
        _letters.stream_sequence == letter.stream_sequence,
        _letters.subject == _spell(letter.subject),
        _letters.data == letter.data,
    )
    if keep_sealed(tx, dead_letters, await list_readable(tx, dead_letters, same)):
        return False
    values = {name: getattr(letter, name) for name in Letter.__slots__}
    values |= {
        "letter_id": str(uuid7()),
        "subject": _spell(letter.subject),
        "headers": json.dumps(dict(letter.headers)),
    }
    await tx.execute(sa.insert(dead_letters).values(**values, seal=seal_of(tx, dead_letters, values)))
    return True


def _spell(subject: str) -> str:
    """As a text of the database can hold it. No event of ours has a subject that it cannot."""
    return subject.replace("\0", "\ufffd")


_COUNT = "SELECT (SELECT count(*) FROM public.dead_letters), (SELECT count(*) FROM public.seen_letters)"


async def count_rows(database: Database) -> tuple[int, int]:
    """How many letters there are, and how much was done about them: both are only added to."""
    [counted] = await database.send_for_all(_COUNT)
    return counted[0], counted[1]


async def list_waiting(tx: Tx, consumer: str) -> list[str]:
    """The letters of the consumer, oldest first, that nobody has seen to. One that a login made up waits as well: it
    is to be seen, and a person dismisses it.
    """
    mine = _letters.consumer == consumer
    order = (_letters.set_aside_at, _letters.stream, _letters.stream_sequence, _letters.letter_id)
    there = await tx.scalars(sa.select(_letters.letter_id).where(mine).order_by(*order))
    seen = sa.select(seen_letters).join(dead_letters, _seen.letter_id == _letters.letter_id).where(mine)
    done = {row.letter_id for row in keep_sealed(tx, seen_letters, await list_readable(tx, seen_letters, seen))}
    return [letter_id for letter_id in there if letter_id not in done]


async def read_letter(tx: Tx, letter_id: str) -> Letter:
    """Raises: NotSealed: a login of the database made it up."""
    row = (await tx.execute(sa.select(dead_letters).where(_letters.letter_id == letter_id))).one()
    check_row(tx, dead_letters, row)
    values = {name: getattr(row, name) for name in Letter.__slots__}
    return Letter(**values | {"headers": json.loads(row.headers)})


async def record_seen(tx: Tx, letter_id: str, outcome: Outcome, *, person: str, reason: str, now: datetime) -> None:
    """The letter waits no more."""
    values = {
        "seen_id": str(uuid7()),
        "letter_id": letter_id,
        "outcome": outcome.value,
        "person": person,
        "reason": reason,
        "seen_at": now,
    }
    await tx.execute(sa.insert(seen_letters).values(**values, seal=seal_of(tx, seen_letters, values)))
