"""A transaction of a database: what is done in it, on one of the driver's connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import asyncpg

from services.chassis.data.sql import Compiled, Result, build_rows, compile_statement

Values = Mapping[str, Any]
NO_VALUES: Values = {}


class Rest(IntEnum):
    """What is left to be written together, in the order in which that is done: what is locked then may tell events."""

    FINDINGS = 1
    ENTRIES = 2
    EVENTS = 3


class Tx:
    """A transaction that has begun, as `Database.begin` gives it.

    Args:
        driver: The connection that it is on, for what is sent as text.
    """

    __slots__ = ("_left", "driver", "has_events", "info")

    def __init__(self, driver: asyncpg.Connection) -> None:
        self.driver = driver
        # What goes with it: what its rows are sealed with, and by which policy approvals are decided.
        self.info: dict[Any, Any] = {}
        # Whether it leaves events behind, so that its commit wakes the relay.
        self.has_events = False
        self._left: dict[Rest, Callable[[], Awaitable[None]]] = {}

    def leave(self, rest: Rest, write: Callable[[], Awaitable[None]]) -> None:
        """Leaves something to be written by `write_rest`; of each kind there is one that writes all of it."""
        self._left[rest] = write

    async def write_rest(self) -> None:
        """Writes what was left: called before the commit, and by whoever must find it written."""
        while self._left:
            await self._left.pop(min(self._left))()

    async def execute(self, statement: Any, values: Values | Sequence[Values] = NO_VALUES) -> Result:
        """
        Args:
            statement: SQLAlchemy's.
            values: Of the parameters that are given with each call; or a row of them each time it is to be done.
        """
        if isinstance(values, Mapping):
            compiled = compile_statement(statement, values)
            return await self._send(compiled, *compiled.fill(values))
        if not values:
            return Result([], 0)
        compiled = compile_statement(statement, values[0])
        filled = [compiled.fill(row) for row in values]
        if compiled.gives_rows:
            rows = [row for each in filled for row in await self._send(compiled, *each)]
            return Result(rows, len(rows))
        await self.driver.executemany(filled[0][0], [arguments for _, arguments in filled])
        return Result([], len(values))

    async def _send(self, compiled: Compiled, text: str, arguments: Sequence[Any]) -> Result:
        if compiled.gives_rows:
            rows = build_rows(await self.driver.fetch(text, *arguments))
            return Result(rows, len(rows))
        done = await self.driver.execute(text, *arguments)  # "UPDATE 3", "INSERT 0 3"
        return Result([], int(done.rsplit(" ", 1)[-1]))

    async def scalar(self, statement: Any, values: Values = NO_VALUES) -> Any:
        """The first column of the first row; None where there is none."""
        found = (await self.execute(statement, values)).scalars()
        return found[0] if found else None

    async def scalars(self, statement: Any, values: Values = NO_VALUES) -> list[Any]:
        """The first column of each row."""
        return (await self.execute(statement, values)).scalars()
