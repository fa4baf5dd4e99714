"""Connections to PostgreSQL that are used again: the one used last is taken first, so that few are open and warm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

_WAIT_SECONDS = 3.0


class PoolExhausted(Exception):
    """All connections have been in use for seconds."""


class Pool:
    """At most so many connections, each opened when it is first needed.

    Whoever is done leaves nothing behind on a connection, so it goes back as it is; one that was terminated is replaced
    (rule c20).

    Args:
        open_connection: Opens one.
    """

    def __init__(self, open_connection: Callable[[], Awaitable[asyncpg.Connection]], connections_max: int) -> None:
        self._open = open_connection
        self._places: asyncio.LifoQueue[asyncpg.Connection | None] = asyncio.LifoQueue()
        for _ in range(connections_max):
            self._places.put_nowait(None)
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
        connection = await self._wait() if self._places.empty() else self._places.get_nowait()
        if connection is not None and not connection.is_closed():
            return connection
        try:
            return await self._open()
        except BaseException:
            self._places.put_nowait(None)
            raise

    async def _wait(self) -> asyncpg.Connection | None:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await self._places.get()
        except TimeoutError as error:
            raise PoolExhausted from error

    def release(self, connection: asyncpg.Connection) -> None:
        if self._is_closed:
            connection.terminate()
        self._places.put_nowait(None if connection.is_closed() else connection)

    def drop_idle(self) -> None:
        """Closes those that nobody uses: the server that dropped one dropped those, too."""
        idle = [self._places.get_nowait() for _ in range(self._places.qsize())]
        for connection in idle:
            if connection is not None:
                connection.terminate()
            self._places.put_nowait(None)

    def close(self) -> None:
        """Closes every connection; those in use, when they are given back."""
        self._is_closed = True
        self.drop_idle()
