"""Reads in one round trip: a SELECT that sets its organization itself, built once and sent by the driver alone.

- `caller` comes first in each statement, sets `app.org_id` for this statement's transaction and no longer, and what is
  read refers to it: so PostgreSQL looks at no row before row level security knows whose may be seen (ADR 27).
- Names stand with their schema: where a role's defaults would look for them does not matter.
- Nothing is left behind on a connection, so it goes back as it is. That of a read which was cancelled, or never
  answered, is closed and not used again (rule c20).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.sql import visitors

from services.chassis.calls.auth import current_principal
from services.chassis.data.database_errors import is_contention
from services.chassis.data.pool import Pool
from services.chassis.data.reach import names_caller
from services.chassis.data.sql import DIALECT, Compiled, Row, build_rows
from services.chassis.data.transaction import Tx
from services.chassis.values.invariant import invariant

_CALLER = sa.literal_column("caller.org", sa.Text)
_SCHEMAS = {None: "public"}


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

        def name_caller(element: Any) -> Any:
            if not names_caller(element):
                return None
            named.append(element)
            return _CALLER

        compiled = _compile(self.select, name_caller)
        invariant(bool(named), "a read says whose rows it is about")
        return compiled

    @cached_property
    def _names(self) -> list[str]:
        return list(self._compiled.positiontup or ())

    def list_arguments(self, org_id: str, values: Mapping[str, Any]) -> list[Any]:
        return [*map(values.__getitem__, self._names), org_id]


def compile_for_all(select: sa.Select[Any]) -> tuple[str, list[str]]:
    """The text of a SELECT for `Database.send_for_all`, and the names of its parameters in their order."""
    compiled = _compile(select, lambda _: None)
    return str(compiled), list(compiled.positiontup or ())


def compile_write_for_all(statement: sa.Insert | sa.Update) -> Compiled:
    """The same of a statement that writes. `ARE_SET` (database.py) is among its conditions."""
    return Compiled(
        statement.compile(dialect=DIALECT, schema_translate_map=_SCHEMAS, render_schema_translate=True), None
    )


def _compile(select: sa.Select[Any], replace: Callable[[Any], Any]) -> Any:
    def spell(element: Any, **_: Any) -> Any:
        if (replaced := replace(element)) is not None or not isinstance(element, sa.BindParameter):
            return replaced
        if element.value is not None:
            return element.render_literal_execute()
        return sa.bindparam(element.key, type_=element.type, required=False)

    spelled: Any = visitors.replacement_traverse(select, {}, spell)
    options = {"render_postcompile": True}  # what stands in it is written out
    return spelled.compile(
        dialect=DIALECT, schema_translate_map=_SCHEMAS, render_schema_translate=True, compile_kwargs=options
    )


class Reader:
    """Where reads run.

    Args:
        pool: Its connections are the role's of requests, or of looks at all organizations.
        note: Hears of each error.
    """

    def __init__(self, pool: Pool, note: Callable[[Exception], None]) -> None:
        # What goes with each read, as with each transaction: what its rows are sealed with.
        self.info: dict[Any, Any] = {}
        self.pool, self._note = pool, note

    async def fetch(self, read: Read, values: Mapping[str, Any]) -> list[Row]:
        """The rows."""
        return build_rows(await self.send(read.text, read.list_arguments(current_principal().org_id, values)))

    async def send(self, text: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        """One statement by itself. What the server has dropped meanwhile is replaced once, so it may be repeated."""
        for is_last in (False, True):
            connection = await self.pool.acquire()
            try:
                records: list[asyncpg.Record] = await connection.fetch(text, *arguments)
                return records
            except (asyncio.CancelledError, TimeoutError):
                connection.terminate()
                raise
            except Exception as error:
                self._note(error)
                is_dropped = connection.is_closed()
                if not is_contention(error):
                    # Of what its role's defaults were when it was opened, or of the server, the next may be free.
                    connection.terminate()
                    self.pool.drop_idle()
                if is_last or not is_dropped:
                    raise
            finally:
                self.pool.release(connection)
        raise AssertionError("unreachable")


# Where a `Read` runs: by itself, or in a transaction among other statements.
Source = Tx | Reader


async def fetch_rows(source: Source, read: Read, **values: Any) -> Sequence[Row]:
    """
    Args:
        values: Those of the read's parameters, by name.
    """
    if isinstance(source, Reader):
        return await source.fetch(read, values)
    return (await source.execute(read.select, values)).all()


async def fetch_row(source: Source, read: Read, **values: Any) -> Row | None:
    """The only row, if there is one."""
    rows = await fetch_rows(source, read, **values)
    invariant(len(rows) <= 1, "a key has one row")
    return rows[0] if rows else None
