"""Reads in one round trip: a SELECT that sets its organization itself, built once and sent by the driver alone.

- `caller` comes first in each statement, sets `app.org_id` for this statement's transaction and no longer, and what is
  read refers to it: so PostgreSQL looks at no row before row level security knows whose may be seen (ADR 27).
- Names stand with their schema: where a role's defaults would look for them does not matter.
- Nothing is left behind on a connection, so it goes back as it is. That of a read which was cancelled, or never
  answered, is closed and not used again (rule c20).
"""

from __future__ import annotations

import asyncio
from collections import namedtuple
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import visitors

from services.chassis.calls.auth import current_principal
from services.chassis.data.reach import names_caller
from services.chassis.values.invariant import invariant

_DIALECT: Any = dialect.dialect()  # type: ignore[no-untyped-call]
_CALLER = sa.literal_column("caller.org", sa.Text)
_SCHEMAS = {None: "public"}
_WAIT_SECONDS = 3.0


class Read:
    """A SELECT of the caller's organization, built once.

    Args:
        select: Some condition of it is `is_mine`. Values that are given with each call are bindparams; those that stand
            in it are sent as they stand, so that a plan can count on them. How many rows it gives at most is one of
            those: a plan that did not know it would be made for a tenth of the table.
    """

    def __init__(self, select: sa.Select[Any]) -> None:
        self.select = select

    @cached_property
    def text(self) -> str:
        """What is sent. The organization is its last parameter."""
        caller = f"SELECT set_config('app.org_id', ${len(self._names) + 1}, true) AS org OFFSET 0"
        return f"SELECT r.* FROM ({caller}) caller CROSS JOIN LATERAL ({self._compiled} OFFSET 0) r"  # noqa: S608

    @cached_property
    def _compiled(self) -> Any:
        named: list[object] = []

        def spell(element: Any, **_: Any) -> Any:
            if names_caller(element):
                named.append(element)
                return _CALLER
            if not isinstance(element, sa.BindParameter):
                return None
            if element.value is not None:
                return element.render_literal_execute()
            return sa.bindparam(element.key, type_=element.type, required=False)

        select: Any = visitors.replacement_traverse(self.select, {}, spell)
        invariant(bool(named), "a read says whose rows it is about")
        options = {"render_postcompile": True}  # what stands in it is written out
        return select.compile(
            dialect=_DIALECT, schema_translate_map=_SCHEMAS, render_schema_translate=True, compile_kwargs=options
        )

    @cached_property
    def _names(self) -> list[str]:
        return list(self._compiled.positiontup or ())

    @cached_property
    def _row(self) -> Callable[[Iterable[Any]], Any]:
        """A row has its columns as attributes, as SQLAlchemy's have."""
        columns = self.select.selected_columns
        names = list(columns.keys())
        named: Any = namedtuple("Row", names)  # type: ignore[misc]  # which they are is known here only
        kind = type("Row", (named,), {"__slots__": (), "_mapping": property(named._asdict)})
        in_json = [place for place, column in enumerate(columns) if isinstance(column.type, sa.JSON)]
        make: Callable[[Iterable[Any]], Any] = kind._make  # type: ignore[attr-defined]
        if not in_json:
            return make

        def make_from_json(record: Iterable[Any]) -> Any:
            values = list(record)
            for place in in_json:
                if values[place] is not None:
                    values[place] = orjson.loads(values[place])
            return make(values)

        return make_from_json

    def list_arguments(self, org_id: str, values: Mapping[str, Any]) -> list[Any]:
        return [*map(values.__getitem__, self._names), org_id]

    def build_rows(self, records: Iterable[asyncpg.Record]) -> list[Any]:
        return list(map(self._row, records))


class Reader:
    """The connections that reads run on: the one that was used last is taken first, so that few are open and warm.

    Args:
        connect: Opens one, as the role of requests.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], connections_max: int) -> None:
        # What goes with each read, as with each transaction: what its rows are sealed with.
        self.info: dict[Any, Any] = {}
        self._connect = connect
        self._places: asyncio.LifoQueue[asyncpg.Connection | None] = asyncio.LifoQueue()
        for _ in range(connections_max):
            self._places.put_nowait(None)
        self._is_closed = False

    async def fetch(self, read: Read, values: Mapping[str, Any]) -> list[Any]:
        """The rows."""
        return read.build_rows(await self.send(read.text, read.list_arguments(current_principal().org_id, values)))

    async def send(self, text: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        """One statement by itself. What the server has dropped meanwhile is replaced once, so it may be repeated."""
        for is_last in (False, True):
            connection = await self._take()
            try:
                records: list[asyncpg.Record] = await connection.fetch(text, *arguments)
                return records
            except (asyncio.CancelledError, TimeoutError):
                connection.terminate()
                raise
            except Exception:
                if is_last or not connection.is_closed():
                    raise
                self._close_idle()  # the server that dropped this one dropped those, too
            finally:
                self._give_back(connection)
        raise AssertionError("unreachable")

    async def _take(self) -> asyncpg.Connection:
        connection = await self._wait() if self._places.empty() else self._places.get_nowait()
        if connection is not None and not connection.is_closed():
            return connection
        try:
            return await self._connect()
        except BaseException:
            self._places.put_nowait(None)
            raise

    async def _wait(self) -> asyncpg.Connection | None:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await self._places.get()
        except TimeoutError as error:
            raise PoolTimeoutError("all connections for reads are in use") from error

    def _give_back(self, connection: asyncpg.Connection) -> None:
        if self._is_closed:
            connection.terminate()
        self._places.put_nowait(None if connection.is_closed() else connection)

    def _close_idle(self) -> None:
        idle = [self._places.get_nowait() for _ in range(self._places.qsize())]
        for connection in idle:
            if connection is not None:
                connection.terminate()
            self._places.put_nowait(None)

    def close(self) -> None:
        """Closes every connection; those in use, when they are given back."""
        self._is_closed = True
        self._close_idle()


# Where a `Read` runs: by itself, or in a transaction among other statements.
Source = AsyncConnection | Reader


async def fetch_rows(source: Source, read: Read, **values: Any) -> Sequence[Any]:
    """
    Args:
        values: Those of the read's parameters, by name.
    """
    if isinstance(source, Reader):
        return await source.fetch(read, values)
    return (await source.execute(read.select, values)).all()


async def fetch_row(source: Source, read: Read, **values: Any) -> Any | None:
    """The only row, if there is one."""
    rows = await fetch_rows(source, read, **values)
    invariant(len(rows) <= 1, "a key has one row")
    return rows[0] if rows else None
