"""Connections to PostgreSQL that are used again: the one used last is taken first, so that few are open and warm, and
those that a moment of much work opened are closed again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg

_WAIT_SECONDS = 3.0
# Each is a process of the server, with megabytes of its own.
_UNUSED_SECONDS, _SWEEP_SECONDS = 20.0, 10.0


class PoolExhausted(Exception):
    """All connections have been in use for seconds."""


class _Place(NamedTuple):
    """For one connection; None: it is to be opened."""

    connection: asyncpg.Connection | None = None
    used_at: float = 0.0  # by the loop's clock


class Pool:
    """At most so many connections, each opened when it is first needed, and closed once it was not for a while.

    Whoever is done leaves nothing behind on a connection, so it goes back as it is; one that was terminated is replaced
    (rule c20).

    Args:
        open_connection: Opens one.
    """

    def __init__(self, open_connection: Callable[[], Awaitable[asyncpg.Connection]], connections_max: int) -> None:
        self._open = open_connection
        self._places: asyncio.LifoQueue[_Place] = asyncio.LifoQueue()
        for _ in range(connections_max):
            self._places.put_nowait(_Place())
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    @asynccontextmanager
    async def take(self) -> AsyncIterator[asyncpg.Connection]:
        """One for this block. Raises: PoolExhausted."""
        connection = await self.acquire()
        try:
            yield connection
        finally:
            self.release(connection)

    async def acquire(self) -> asyncpg.Connection:
        """Raises: PoolExhausted."""
        place = await self._wait() if self._places.empty() else self._places.get_nowait()
        connection = place.connection
        if connection is not None and not connection.is_closed():
            return connection
        try:
            return await self._open()
        except BaseException:
            self._places.put_nowait(_Place())
            raise

    async def _wait(self) -> _Place:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await self._places.get()
        except TimeoutError as error:
            raise PoolExhausted from error

    def release(self, connection: asyncpg.Connection) -> None:
        if self._is_closed:
            connection.terminate()
        loop = asyncio.get_running_loop()
        self._places.put_nowait(_Place() if connection.is_closed() else _Place(connection, loop.time()))
        if self._sweep is None and not self._is_closed:
            self._sweep = loop.call_later(_SWEEP_SECONDS, self._close_unused)

    def _close_unused(self) -> None:
        loop = asyncio.get_running_loop()
        self.drop_idle(used_before=loop.time() - _UNUSED_SECONDS)
        self._sweep = loop.call_later(_SWEEP_SECONDS, self._close_unused)

    def drop_idle(self, used_before: float = math.inf) -> None:
        """Closes those that nobody uses: the server that dropped one dropped those, too.

        Args:
            used_before: Only those that nobody has used since then, by the loop's clock.
        """
        idle = [self._places.get_nowait() for _ in range(self._places.qsize())]
        for place in reversed(idle):  # as they lay: the one used last on top
            if place.connection is not None and place.used_at < used_before:
                place.connection.terminate()
                place = _Place()
            self._places.put_nowait(place)

    def close(self) -> None:
        """Closes every connection; those in use, when they are given back."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        self.drop_idle()
