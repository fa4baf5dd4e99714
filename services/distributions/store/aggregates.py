"""How frozen values become rows: found, locked, inserted, changed; and no status but by a move of its table.

A change names the version it was made from, so that nothing can be written over what somebody else wrote meanwhile.
Each row bears a seal (chassis/data/seals.py): it is asked for whenever one is locked to be acted upon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_row, seal_of
from services.chassis.values.invariant import invariant
from services.distributions.domain.states import check_move
from services.distributions.store.rows import Row, build_values_table, insert_many
from services.distributions.tables import moves as moves_table

V = TypeVar("V")


@dataclass(frozen=True)
class Aggregate(Generic[V]):
    """
    Args:
        key: The column with the value's own id.
        moves: Which statuses may follow which.
        read: A row as a value.
        columns: A value as the columns of its row, its version left out.
        query: What reads it, where it is more than its row.
        keeps_history: Whether each move is a line of `moves`.
    """

    table: sa.Table
    key: str
    moves: Mapping[Any, frozenset[Any]]
    read: Callable[[Row], V]
    columns: Callable[[V], dict[str, Any]]
    query: Callable[[], sa.Select[Any]] | None = None
    keeps_history: bool = True

    def select(self) -> sa.Select[Any]:
        """All of the caller's organization."""
        query = self.query() if self.query is not None else sa.select(self.table)
        return query.where(is_mine(self.table))

    async def find(self, tx: AsyncConnection, value_id: str) -> V | None:
        row = (await tx.execute(self.select().where(self.table.c[self.key] == value_id))).one_or_none()
        return None if row is None else self.read(row)

    async def lock(self, tx: AsyncConnection, value_id: str) -> V | None:
        found = await self.lock_all(tx, self.table.c[self.key] == value_id)
        return found[0] if found else None

    async def lock_known(self, tx: AsyncConnection, value_id: str) -> V:
        """The value that another row names: it is there."""
        found = await self.lock(tx, value_id)
        invariant(found is not None, f"the {self.table.name} row that another row names is there")
        return cast("V", found)

    async def list_all(self, tx: AsyncConnection, *conditions: sa.ColumnElement[bool]) -> list[V]:
        """By id."""
        query = self.select().where(*conditions).order_by(self.table.c[self.key])
        return [self.read(row) for row in await tx.execute(query)]

    async def lock_all(self, tx: AsyncConnection, *conditions: sa.ColumnElement[bool]) -> list[V]:
        """Locked by id, which is the order everybody takes them in. Raises: NotSealed."""
        query = self.select().where(*conditions).order_by(self.table.c[self.key])
        query = query.with_for_update(key_share=True, of=self.table)
        return [self.read_sealed(tx, row) for row in await tx.execute(query)]

    def read_sealed(self, tx: AsyncConnection, row: Row) -> V:
        """A row as a value to act upon. Raises: NotSealed."""
        return self.read(check_row(tx, self.table, row))

    async def insert(self, tx: AsyncConnection, value: V) -> bool:
        """False if a unique key is taken."""
        columns = self.columns(value)
        row = pg.insert(self.table).values(org_id=current_principal().org_id, seal=self._seal(tx, value), **columns)
        if (await tx.execute(row.on_conflict_do_nothing())).rowcount != 1:
            return False
        await self._record_moves(tx, [(None, value)])
        return True

    async def insert_all(self, tx: AsyncConnection, values: Sequence[V]) -> None:
        rows = [{**self.columns(each), "version": _version(each), "seal": self._seal(tx, each)} for each in values]
        await insert_many(tx, self.table, rows)

    async def save_all(self, tx: AsyncConnection, changes: Sequence[tuple[V, V]], now: datetime) -> list[V]:
        """Writes each value in place of the one before it, in one statement.

        Raises: IllegalStatusChange.
        """
        if not changes:
            return []
        saved = []
        for before, after in changes:
            if _status(before) is not _status(after):
                check_move(self.moves, _status(before), _status(after))
            value: Any = after
            saved.append(cast("V", replace(value, updated_at=now, version=_version(before) + 1)))
        befores = [self.columns(before) for before, _ in changes]
        afters = [self.columns(after) for after in saved]
        names = [
            name
            for name in afters[0]
            if self._is_spelled(name) or any(b[name] != a[name] for b, a in zip(befores, afters, strict=True))
        ]
        source = build_values_table(
            ("saved_id", sa.Text(), [after[self.key] for after in afters]),
            ("saved_version", sa.BigInteger(), [_version(after) for after in saved]),
            ("made_seal", pg.BYTEA(), [self._seal(tx, after) for after in saved]),
            *((name, self.table.c[name].type, [after[name] for after in afters]) for name in names),
        )
        update = (
            sa.update(self.table)
            .where(is_mine(self.table), self.table.c[self.key] == source.c.saved_id)
            .where(self.table.c.version == source.c.saved_version - 1)
            .values(
                {
                    "version": source.c.saved_version,
                    "seal": source.c.made_seal,
                    **{name: source.c[name] for name in names},
                }
            )
        )
        written = (await tx.execute(update)).rowcount
        invariant(written == len(saved), f"nobody else changed the {self.table.name} that this transaction has locked")
        moved = [(b, a) for (b, _), a in zip(changes, saved, strict=True) if _status(b) is not _status(a)]
        await self._record_moves(tx, moved)
        return saved

    async def save(self, tx: AsyncConnection, before: V, after: V, now: datetime) -> V:
        return (await self.save_all(tx, [(before, after)], now))[0]

    def _is_spelled(self, name: str) -> bool:
        """Whether the column holds what this code spells, so that the row may have it as another release spelled it.

        The seal is of what is spelled now: that is written, too, though the value is the same.
        """
        return isinstance(self.table.c[name].type, sa.JSON) and name != "metadata"

    def _seal(self, tx: AsyncConnection, value: V) -> bytes:
        written = {**self.columns(value), "org_id": current_principal().org_id, "version": _version(value)}
        return seal_of(tx, self.table, written)

    async def _record_moves(self, tx: AsyncConnection, moved: Sequence[tuple[V | None, V]]) -> None:
        if not self.keeps_history:
            return
        actor = current_principal().person
        lines = [
            {
                "subject_id": getattr(after, self.key),
                "version": _version(after),
                "from_status": None if before is None else _status(before).value,
                "to_status": _status(after).value,
                "actor": actor,
                "moved_at": cast("Any", after).updated_at,
            }
            for before, after in moved
        ]
        await insert_many(tx, moves_table, lines)


def _status(value: object) -> Any:
    return cast("Any", value).status


def _version(value: object) -> int:
    return int(cast("Any", value).version)
