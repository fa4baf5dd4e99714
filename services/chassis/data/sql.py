"""SQLAlchemy's statements as what the driver sends: text, arguments, rows.

SQLAlchemy builds and compiles statements, and sends none of them: its connections, results and adapters cost four times
what asyncpg does for the same answer (ADR 28). What a statement was compiled to is kept with the statement, and for all
that differ from it in nothing but their values.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from services.chassis.values.invariant import invariant, require_present

DIALECT: Any = dialect.dialect()  # type: ignore[no-untyped-call]
_SHAPES_MAX = 2_000


class Row(tuple[Any, ...]):
    """A row of an answer: its columns are attributes."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def _mapping(self) -> dict[str, Any]:
        return self._asdict()


class Result:
    """What a statement did: its rows, and how many rows of its table it wrote, unless it is text."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Row], rowcount: int) -> None:
        self._rows, self.rowcount = rows, rowcount

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def all(self) -> list[Row]:
        return self._rows

    def one(self) -> Row:
        return require_present(self.one_or_none(), "the row that is asked for is there")

    def one_or_none(self) -> Row | None:
        """The only row, if there is one."""
        invariant(len(self._rows) <= 1, "there is one such row")
        return self._rows[0] if self._rows else None

    def scalars(self) -> list[Any]:
        """The first column."""
        return [row[0] for row in self._rows]

    def scalar_one(self) -> Any:
        return self.one()[0]


@cache
def _kind_of(names: tuple[str, ...]) -> Callable[[Iterable[Any]], Row]:
    named: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # which they are is known here only
    make: Callable[[Iterable[Any]], Row] = type("Row", (named, Row), {"__slots__": ()})._make  # type: ignore[attr-defined]
    return make


def build_rows(records: Sequence[asyncpg.Record]) -> list[Row]:
    return list(map(_kind_of(tuple(records[0].keys())), records)) if records else []


class Compiled:
    """A statement as text, and how its values become the driver's arguments.

    Args:
        own: The values that stand in the statement itself, where another of its shape was compiled.
    """

    def __init__(self, compiled: Any, own: Sequence[Any] | None) -> None:
        self.statement = compiled.statement
        self._compiled, self._own = compiled, own
        self._spell: Mapping[str, Any] = compiled._bind_processors
        # The number of values in a list is part of the text.
        self._is_open = bool(compiled.post_compile_params)
        writes = compiled.isinsert or compiled.isupdate or compiled.isdelete
        self.gives_rows = not writes or bool(compiled.effective_returning)

    def fill(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """
        Args:
            values: Of the parameters that are given with each call.

        Returns: What is sent.
        """
        found = self._compiled.construct_params(values, extracted_parameters=self._own)
        if self._is_open:
            return self._fill_open(found)
        spell = self._spell
        arguments = [
            spell[name](found[name]) if name in spell else found[name] for name in self._compiled.positiontup or ()
        ]
        return self._compiled.string, arguments

    def _fill_open(self, found: dict[str, Any]) -> tuple[str, list[Any]]:
        state = self._compiled._process_parameters_for_postcompile(found)
        spell = {**self._spell, **state.processors}
        filled = {**found, **state.additional_parameters}
        names = state.positiontup
        return state.statement, [spell[name](filled[name]) if name in spell else filled[name] for name in names]


_shapes: dict[Any, Any] = {}
_known: WeakKeyDictionary[Any, dict[Any, Compiled]] = WeakKeyDictionary()


def compile_statement(statement: Any, given: Iterable[str] = ()) -> Compiled:
    """
    Args:
        given: The names of the values that come with the call: an INSERT without values writes these columns.
    """
    written = tuple(given) if statement.is_insert or statement.is_update else ()
    known = _known.get(statement)
    if known is None:
        known = _known[statement] = {}
    found = known.get(written)
    if found is None:
        found = known[written] = _compile(statement, written)
    return found


def _compile(statement: Any, written: tuple[str, ...]) -> Compiled:
    # A copy: what SQLAlchemy notes on it of what it returns would be taken for true of whatever is built of it later.
    statement = statement.execution_options()
    key = statement._generate_cache_key()
    options: dict[str, Any] = {"column_keys": list(written)} if written else {}
    if key is None:
        return Compiled(statement.compile(dialect=DIALECT, **options), None)
    shape = (key.key, written)
    compiled = _shapes.get(shape)
    if compiled is None:
        if len(_shapes) == _SHAPES_MAX:
            _shapes.clear()
        compiled = _shapes[shape] = statement.compile(dialect=DIALECT, cache_key=key, **options)
    return Compiled(compiled, key.bindparams)


_SUM_MAX = 10**15


def bound_sum(minor: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """A sum of rows that nobody proves, so that however much somebody made up can be told.

    Nothing where there is nothing to sum: the least of NULL and a number is the number, in PostgreSQL.
    """
    return sa.func.least(sa.func.coalesce(minor, 0), _SUM_MAX)
