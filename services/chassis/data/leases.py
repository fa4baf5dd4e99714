"""Work that lies in rows: taken by one worker at a time, for a while, and put off with growing pauses.

- A row is due at `due_at`, by the database's clock: one clock for all workers, which no business time moves.
- Taking it is a lease: `due_at` moves past the lease, so nobody else takes it meanwhile, and `epoch` grows. Whoever
  records an outcome names the epoch it took; a worker that was thought dead finds another and records nothing
  (reliability rule c23).
- `tries` counts how often the row was taken since it last got on.
- Nothing is put off for more than a day, and the database refuses a later `due_at`: whoever can write there cannot
  hide work for good.
- Whoever changes a row for another reason, and so makes a running lease meaningless, lets its `epoch` grow, too.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import Any

import sqlalchemy as sa

from services.chassis.data.database import ARE_SET, Database
from services.chassis.data.reads import compile_write_for_all
from services.chassis.data.rows import build_given, build_new, name_given, name_new
from services.chassis.data.seals import keep_sealed
from services.chassis.data.sql import Compiled, Row, build_rows
from services.chassis.data.transaction import Tx
from services.chassis.process.jobs import SWEEP_SECONDS

# Three times the longest remote call: whoever works on a row has ended, or is taken for dead.
LEASE_MS = 15_000
PAUSE_MAX_MS = 24 * 3_600_000
_BACKOFF_MS = (500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000)


def lease_columns() -> list[sa.Column[Any]]:
    """The columns of a table whose rows are work: `due_at` is null where there is nothing to do."""
    return [
        sa.Column("due_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("epoch", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("tries", sa.Integer, nullable=False, server_default=sa.text("0")),
    ]


_NOW = sa.select(sa.func.clock_timestamp()).scalar_subquery()


def due_in(milliseconds: int | sa.ColumnElement[int]) -> sa.ColumnElement[datetime]:
    """A moment of the database's clock; null where it is in so many milliseconds as nobody says."""
    given = sa.literal(milliseconds) if isinstance(milliseconds, int) else milliseconds
    return sa.func.clock_timestamp() + given * sa.text("interval '1 millisecond'")


def is_due(moment: sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """Whether a moment of the database's clock has come.

    The clock is read once, in a subquery: compared with directly it would be read for each row, and no index could
    tell what is due from what waits.
    """
    return moment <= _NOW


def find_first(
    table: sa.Table,
    moment: sa.ColumnElement[Any],
    now: sa.ColumnElement[Any],
    *conditions: sa.ColumnElement[bool],
    order: sa.ColumnElement[Any] | None = None,
) -> sa.ColumnElement[float]:
    """In how many seconds the first row is due of those for which the conditions hold; null if not before the next
    sweep, so that no more rows are looked at than are due by then.

    Args:
        now: By the clock that the moment is of.
        order: By which the rows are found. Unless given, by the moment.
    """
    seconds = sa.cast(sa.extract("epoch", moment - now), sa.Double)
    soon = moment <= now + sa.text(f"interval '{SWEEP_SECONDS} seconds'")
    found = sa.select(seconds).select_from(table).where(soon, *conditions).order_by(moment if order is None else order)
    return found.limit(sa.literal_column("1")).scalar_subquery()


def backoff_ms(tries: int) -> int:
    """How long to wait after so many tries without an outcome: half a second at first, a minute at most."""
    return _BACKOFF_MS[min(max(tries, 1), len(_BACKOFF_MS)) - 1]


def add_jitter(pause_ms: int) -> int:
    """Between half of the pause and the whole, so that rows that failed together are not tried together."""
    return random.randint(pause_ms // 2, pause_ms)  # noqa: S311  # no secret


@dataclass(frozen=True)
class Taking:
    """How due rows of a table are taken. Built once and run often: to build a statement costs more than to run it.

    Args:
        statement: Takes them in their order, passing over those that are locked.
        first_due: In how many seconds there are any (`Job.work`).
    """

    statement: sa.Update
    first_due: sa.ColumnElement[float]

    @cached_property
    def compiled(self) -> Compiled:
        return compile_write_for_all(self.statement)


def build_taking(
    table: sa.Table,
    *,
    lease_ms: int = LEASE_MS,
    count_max: int,
    where: sa.ColumnElement[bool] | None = None,
    first: sa.ColumnElement[Any] | None = None,
    returning: Sequence[sa.ColumnElement[Any]] = (),
) -> Taking:
    """Takes at most so many due rows at a time, of those for which a condition holds.

    Args:
        first: Which are taken first: those in which it is least. Unless given, the longest due.
    """
    key = list(table.primary_key.columns)
    conditions = [] if where is None else [where]
    found = sa.select(*key).where(ARE_SET, is_due(table.c.due_at), *conditions)
    order = table.c.due_at if first is None else first
    due = found.order_by(order).limit(count_max).with_for_update(skip_locked=True, key_share=True).cte("due")
    statement = (
        sa.update(table)
        .where(*(column == due.c[column.name] for column in key))
        .values(epoch=table.c.epoch + 1, tries=table.c.tries + 1, due_at=due_in(lease_ms))
        .returning(*(returning or table.c))
    )
    return Taking(statement, find_first(table, table.c.due_at, _NOW, *conditions, order=order))


async def take(database: Database, taking: Taking, **values: Any) -> list[Row]:
    """What is taken, of any organization: one statement by itself. Should it be sent twice, what the first took is due
    once its lease runs out.

    Args:
        values: Of the parameters that the taking's condition has.
    """
    text, arguments = taking.compiled.fill(values)
    return build_rows(await database.send_for_all(text, *arguments))


async def take_sealed(database: Database, table: sa.Table, taking: Taking, **values: Any) -> list[Row]:
    """What is taken of a sealed table; empty where nothing is due that this service wrote.

    Rows that it did not write are leased as well, and it goes on to the next ones: they hold up nothing else.
    """
    while found := await take(database, taking, **values):
        if ours := keep_sealed(database.reader, table, found):
            return ours
    return []


async def lock_taken(
    tx: Tx,
    table: sa.Table,
    taken: Sequence[Mapping[str, Any]],
    *,
    returning: Sequence[sa.ColumnElement[Any]] = (),
) -> Sequence[Row]:
    """Locks those of the taken rows that are still ours, in the order of their keys.

    Args:
        taken: The rows as they were taken: their keys and epochs.
    """
    if not taken:
        return []
    names = (*(column.name for column in table.primary_key.columns), "epoch")
    is_one, values = name_given(names, taken)
    return (await tx.execute(_build_lock(table, tuple(returning), is_one), values)).all()


@cache
def _build_lock(table: sa.Table, returning: Sequence[sa.ColumnElement[Any]], is_one: bool) -> sa.Select[Any]:
    key = list(table.primary_key.columns)
    kinds = [(column.name, column.type) for column in (*key, table.c.epoch)]
    source = build_given(kinds, is_one)
    ours = (table.c[name] == source[name] for name, _ in kinds)
    statement = sa.select(*(returning or table.c)).where(*ours).order_by(*key)
    return statement.with_for_update(key_share=True, of=table)


async def finish(
    tx: Tx, table: sa.Table, taken: Mapping[str, Any], *, due_ms: int | None = None, tries: int = 0, **changes: object
) -> bool:
    """Records the outcome of a taken row; False where it is not ours any more, and then nothing was recorded.

    Args:
        taken: The row as it was taken: its key and its epoch.
        due_ms: In how many milliseconds it is due again. None: nothing more to do.
        changes: What else becomes of the row.
    """
    key = [column.name for column in table.primary_key.columns]
    values = {"due_ms": due_ms, **name_new(("tries", *changes), {"tries": tries, **changes})}
    ours = {f"of_{name}": taken[name] for name in (*key, "epoch")}
    return (await tx.execute(_build_finish(table, tuple(changes)), values | ours)).rowcount == 1


@cache
def _build_finish(table: sa.Table, changes: Sequence[str]) -> sa.Update:
    ours = (column == sa.bindparam(f"of_{column.name}") for column in (*table.primary_key.columns, table.c.epoch))
    values = build_new((name, table.c[name].type) for name in ("tries", *changes))
    due_at = due_in(sa.bindparam("due_ms", type_=sa.BigInteger))
    return sa.update(table).where(*ours).values(**values, due_at=due_at)


async def postpone(tx: Tx, table: sa.Table, taken: Mapping[str, Any], *, least_ms: int = 0, **changes: object) -> bool:
    """Puts a taken row off, for longer after each try; False where it is not ours any more.

    Args:
        least_ms: Not earlier than in so many milliseconds, as somebody who was asked wishes.
    """
    tries = int(taken["tries"])
    pause_ms = min(max(add_jitter(backoff_ms(tries)), least_ms), PAUSE_MAX_MS)
    return await finish(tx, table, taken, due_ms=pause_ms, tries=tries, **changes)
