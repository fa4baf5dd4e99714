"""How frozen values become rows: found, locked, inserted, changed; and no status but by a move of its table.

A change names the version it was made from, so that nothing can be written over what somebody else wrote meanwhile.
Each row bears a seal (services/chassis/data/seals.py). Whoever finds, lists or locks a value is given what this service
wrote, or NotSealed; only the page of a list shows rows as they stand (`show_all`), and nothing is decided by it.

What is summed, or who gains, is found by columns that never change: a row whose status somebody altered is refused
then, where a condition on the status would leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cache, cached_property, lru_cache, partial
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_row
from services.chassis.data.rows import build_given, check_rows_in_place, insert_many, name_given
from services.chassis.data.seals import check_row, is_covered, keep_readable, seal_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import VERSION, with_version
from services.chassis.values.invariant import invariant, require_present
from services.chassis.values.moves import Moves, check_move

V = TypeVar("V")
M = TypeVar("M", bound=Message)

# Statements for a set of changed columns each: whoever edits may change any of them together.
_UPDATES_KEPT_MAX = 500
_SEAL = "seal"
_PAGE = 1_000
# As many of these as a page may have are less than a caller receives (calls/channels.py).
_SHOWN_BYTES_MAX = 8 * 1024


@dataclass(frozen=True)
class Aggregate(Generic[V]):
    """
    Args:
        key: The column with the value's own id.
        read: A row as a value (`read_fields`).
        columns: A value as the columns of its row (`list_columns`).
        moves: Which statuses may follow which; None where the value has no status.
        history: The table that has a line of each move, if one does.
    """

    table: sa.Table
    key: str
    read: Callable[[Row], V]
    columns: Callable[[V], dict[str, Any]]
    moves: Moves[Any] | None = None
    history: sa.Table | None = None

    def select(self) -> sa.Select[Any]:
        """All of the caller's organization."""
        return self._selecting

    @cached_property
    def _selecting(self) -> sa.Select[Any]:
        return sa.select(self.table).where(is_mine(self.table))

    @cached_property
    def _listing(self) -> sa.Select[Any]:
        return self._selecting.order_by(self.table.c[self.key])

    @cached_property
    def locking(self) -> sa.Select[Any]:
        """As `select`, with their locks, taken by id."""
        return self._listing.with_for_update(key_share=True, of=self.table)

    async def find(self, source: Source, value_id: str) -> V | None:
        """Without its lock. Raises: NotSealed."""
        row = await fetch_row(source, self._finding, value_id=value_id)
        return None if row is None else self.read_sealed(source, row)

    @cached_property
    def _finding(self) -> Read:
        return Read(self._selecting.where(self.table.c[self.key] == sa.bindparam("value_id")))

    async def find_told(self, source: Source, value_id: str) -> tuple[V, int] | None:
        """Without its lock, and how many events its aggregate, which has its key, had then. Raises: NotSealed."""
        row = await fetch_row(source, self._finding_told, value_id=value_id)
        return None if row is None else (self.read_sealed(source, row), getattr(row, VERSION))

    @cached_property
    def _finding_told(self) -> Read:
        return Read(with_version(self._finding.select, self.table.c[self.key]))

    async def list_sealed(self, tx: Tx, query: sa.Select[Any]) -> list[V]:
        """What a query like `select` finds, without the rows that do not say what this service wrote."""
        return keep_readable(await tx.execute(query), partial(self.read_sealed, tx))

    async def list_ours(self, tx: Tx, *conditions: sa.ColumnElement[bool]) -> list[V]:
        """All of them by id that this service wrote, a page at a time: what it did not write takes no room."""
        ours, last = [], ""
        while True:
            behind = self._listing.where(*conditions, self.table.c[self.key] > last).limit(_PAGE)
            rows = (await tx.execute(behind)).all()
            ours += keep_readable(rows, partial(self.read_sealed, tx))
            if len(rows) < _PAGE:
                return ours
            last = getattr(rows[-1], self.key)

    async def list_first(self, tx: Tx, *conditions: sa.ColumnElement[bool], count_max: int) -> list[V]:
        """The first of them by id that this service wrote, some at least if there are any.

        Rows that it did not write hold up nothing behind them, however many they are.
        """
        last = ""
        while True:
            behind = self._listing.where(*conditions, self.table.c[self.key] > last).limit(count_max)
            rows = (await tx.execute(behind)).all()
            ours = keep_readable(rows, partial(self.read_sealed, tx))
            if ours or len(rows) < count_max:
                return ours
            last = getattr(rows[-1], self.key)

    async def lock(self, tx: Tx, value_id: str) -> V | None:
        row = (await tx.execute(self._locking_one, {"value_id": value_id})).one_or_none()
        return None if row is None else self.read_sealed(tx, row)

    @cached_property
    def _locking_one(self) -> sa.Select[Any]:
        return self.locking.where(self.table.c[self.key] == sa.bindparam("value_id"))

    async def lock_these(self, tx: Tx, value_ids: Collection[str]) -> list[V]:
        """Those of them that are there, locked by id. Raises: NotSealed."""
        found = await tx.execute(self._locking_these, {"value_ids": list(value_ids)})
        return [self.read_sealed(tx, row) for row in found]

    @cached_property
    def _locking_these(self) -> sa.Select[Any]:
        these = sa.bindparam("value_ids", type_=pg.ARRAY(sa.Text))
        return self.locking.where(self.table.c[self.key] == sa.any_(these))

    async def lock_known(self, tx: Tx, value_id: str) -> V:
        """The value that another row names: it is there."""
        found = await self.lock(tx, value_id)
        return require_present(found, f"the {self.table.name} row that another row names is there")

    async def list_all(self, tx: Tx, *conditions: sa.ColumnElement[bool]) -> list[V]:
        """By id, without their locks. Raises: NotSealed."""
        found = await tx.execute(self._listing.where(*conditions))
        return [self.read_sealed(tx, row) for row in found]

    async def lock_all(self, tx: Tx, *conditions: sa.ColumnElement[bool]) -> list[V]:
        """Locked by id, which is the order everybody takes them in. Raises: NotSealed."""
        found = await tx.execute(self.locking.where(*conditions))
        return [self.read_sealed(tx, row) for row in found]

    def read_sealed(self, source: Source, row: Row) -> V:
        """A row as a value to act upon. Raises: NotSealed."""
        check_row(source, self.table, row)
        return self.read(row)

    def show_all(self, source: Source, rows: Iterable[Row], to_message: Callable[[V], M]) -> list[M]:
        """What the page of a list says of each row, as it stands. One that no code can read, or that is so large that a
        page of them is no answer, and that this service did not write, hides none of the others: it is left out, and in
        the log."""

        def show(row: Row) -> M:
            try:
                shown = to_message(self.read(row))
            except Exception:
                check_row(source, self.table, row)
                raise
            if is_large(shown):
                check_row(source, self.table, row)
            return shown

        return keep_readable(rows, show)

    async def insert(self, tx: Tx, value: V) -> None:
        """Where nothing can be in its place: the caller has looked, under a lock.

        Raises: NotSealed: something is, that this service did not write.
        """
        invariant(await self.insert_if_new(tx, value), f"nothing is in the place of a new {self.table.name} row")

    async def insert_if_new(self, tx: Tx, value: V) -> bool:
        """False if a unique key is taken. Raises: NotSealed: by a row that this service did not write."""
        row = {"org_id": current_principal().org_id, **seal_columns(tx, self.table, self.columns(value))}
        if (await tx.execute(self._inserting, row)).rowcount != 1:
            await check_rows_in_place(tx, self.table, [row])
            return False
        await self._record_moves(tx, [(None, value)])
        return True

    @cached_property
    def _inserting(self) -> sa.Insert:
        return pg.insert(self.table).on_conflict_do_nothing()

    async def insert_all(self, tx: Tx, values: Sequence[V]) -> None:
        await insert_many(tx, self.table, [seal_columns(tx, self.table, self.columns(each)) for each in values])

    async def save_all(self, tx: Tx, changes: Sequence[tuple[V, V]], now: datetime) -> list[V]:
        """Writes each value in place of the one before it, in one statement.

        Raises: IllegalStatusChange.
        """
        if not changes:
            return []
        befores = [self.columns(before) for before, _ in changes]
        saved = [self._make_next(before, after, now) for before, after in changes]
        moved = [(b, a) for (b, _), a in zip(changes, saved, strict=True) if self._has_moved(b, a)]
        afters = [seal_columns(tx, self.table, self.columns(after)) for after in saved]
        names = tuple(
            name
            for name in befores[0]
            if name in self._spelled or any(b[name] != a[name] for b, a in zip(befores, afters, strict=True))
        )
        written = (await tx.execute(*self._build_update((*names, _SEAL), afters))).rowcount
        invariant(written == len(saved), f"nobody else changed the {self.table.name} that this transaction has locked")
        await self._record_moves(tx, moved)
        return saved

    async def save(self, tx: Tx, before: V, after: V, now: datetime) -> V:
        return (await self.save_all(tx, [(before, after)], now))[0]

    def _build_update(
        self, names: tuple[str, ...], afters: Sequence[dict[str, Any]]
    ) -> tuple[sa.Update, dict[str, Any]]:
        """The statement that writes these columns, and what is given with it."""
        is_one, values = name_given((self.key, *names), afters)
        return _build_update(self.table, self.key, names, is_one), values

    @property
    def _has_version(self) -> bool:
        """Else the lock of something that has one keeps others from changing it meanwhile."""
        return "version" in self.table.c

    def _make_next(self, before: V, after: V, now: datetime) -> V:
        news: dict[str, Any] = {"version": cast("Any", before).version + 1} if self._has_version else {}
        return cast("V", replace(cast("Any", after), updated_at=now, **news))

    def _has_moved(self, before: V, after: V) -> bool:
        """Whether its status changes. Raises: IllegalStatusChange."""
        if self.moves is None or _status(before) is _status(after):
            return False
        check_move(self.moves, _status(before), _status(after))
        return True

    @cached_property
    def _spelled(self) -> frozenset[str]:
        """The columns that hold what this code spells, so that a row may have it as another release spelled it.

        The seal is of what is spelled now: that is written, too, though the value is the same.
        """
        in_json = (each.name for each in self.table.c if isinstance(each.type, sa.JSON) and each.name != "metadata")
        return frozenset(name for name in in_json if is_covered(self.table, name))

    async def _record_moves(self, tx: Tx, moved: Sequence[tuple[V | None, V]]) -> None:
        if self.history is None:
            return
        actor = current_principal().person
        lines = [
            {
                "subject_id": getattr(after, self.key),
                "version": cast("Any", after).version,
                "from_status": None if before is None else _status(before).value,
                "to_status": _status(after).value,
                "actor": actor,
                "moved_at": cast("Any", after).updated_at,
            }
            for before, after in moved
        ]
        await insert_many(tx, self.history, lines)


@lru_cache(maxsize=_UPDATES_KEPT_MAX)
def _build_update(table: sa.Table, key: str, names: Sequence[str], is_one: bool) -> sa.Update:
    """Of one row, or of as many as there are: once for each set of columns."""
    kinds = ((name, table.c[name].type) for name in (key, *names))
    source = build_given(kinds, is_one)
    update = sa.update(table).where(is_mine(table), table.c[key] == source[key])
    if "version" in table.c:
        update = update.where(table.c.version == source["version"] - 1)
    return update.values({name: source[name] for name in names})


def is_large(shown: Message) -> bool:
    """Whether a page of such messages is more than gRPC takes."""
    return shown.ByteSize() > _SHOWN_BYTES_MAX


def read_fields(kind: type[V], row: Row, /, **read: Any) -> V:
    """A row as a value: each field is what its column has, unless it is given. A field may be called `kind`, too."""
    return kind(**{name: getattr(row, name) for name in _list_fields(cast("Any", kind)) if name not in read}, **read)


@cache
def _list_fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def list_columns(table: sa.Table, value: Any, **written: Any) -> dict[str, Any]:
    """A value as the columns of its row: each is what its field has, unless it is given.

    Where the row has more than the value, somebody else writes it. What is sealed cannot be left out so.
    """
    kept = _list_kept(table, cast("Any", type(value)), tuple(written))
    return {name: getattr(value, name) for name in kept} | written


@cache
def _list_kept(table: sa.Table, kind: type[Any], written: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that hold what a value's fields do."""
    return tuple(name for name in _list_fields(cast("Any", kind)) if name in table.c and name not in written)


def seal_columns(tx: Tx, table: sa.Table, columns: dict[str, Any]) -> dict[str, Any]:
    """What is about to be written to a row of the caller's organization, and the seal of it."""
    return {**columns, _SEAL: seal_of(tx, table, {**columns, "org_id": current_principal().org_id})}


def _status(value: object) -> Any:
    return cast("Any", value).status
