"""A way to a server that can fall silent: what is sent is taken, and nothing more comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class SilentWay:
    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.port = 0
        # Set while the server's answers pass.
        self.answers = asyncio.Event()
        self.answers.set()
        self._ways: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        self._ways += [writer, server_writer]
        await asyncio.gather(self._pass_on(reader, server_writer), self._pass_on(server_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.answers.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    def close(self) -> None:
        for writer in self._ways:
            writer.close()


@asynccontextmanager
async def silent_way(host: str, port: int) -> AsyncIterator[SilentWay]:
    """It listens on its `port` and leads to the server; `answers.clear()` makes it silent."""
    way = SilentWay(host, port)
    listening = await asyncio.start_server(way._serve, "127.0.0.1", 0)
    way.port = listening.sockets[0].getsockname()[1]
    yield way
    way.answers.set()
    listening.close()
    way.close()
