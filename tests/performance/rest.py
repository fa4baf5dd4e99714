"""What REST adds to a call: GETs of the gateway by a client that costs little, on connections that stay open."""

from __future__ import annotations

import asyncio
import random
import re
from urllib.parse import urlsplit

from demo.harness.rest import API
from deploy.local.instance import Instance
from tests.performance import load
from tests.performance.edge import cpu_of
from tests.performance.measure import Results, run_for

READERS = (1, 16)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Rest:
    """The gateway, and a connection for each caller of a round: it closes those on which nobody asks."""

    def __init__(self, instance: Instance, scale: int) -> None:
        self._at = urlsplit(instance.base_url)
        token = instance.issue_token("admin", org=load.ORG)
        self._headers = f"Host: {self._at.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._cpu = cpu_of(instance, "gateway")
        self._scale, self._dice = scale, random.Random(1)
        self._connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def round(self, results: Results, seconds: float) -> None:
        self._connections = [
            await asyncio.open_connection(self._at.hostname, self._at.port) for _ in range(max(READERS))
        ]
        for callers in READERS:
            results.add(f"REST, empty, {callers}", await run_for(seconds, callers, self._get_nothing, cpu=self._cpu))
            results.add(
                f"REST, transaction by id, {callers}", await run_for(seconds, callers, self._get, cpu=self._cpu)
            )
        for _, writer in self._connections:
            writer.close()

    async def _get_nothing(self, caller: int, _number: int) -> None:
        await self._ask(caller, "/healthz")

    async def _get(self, caller: int, _number: int) -> None:
        await self._ask(caller, f"{API}/transactions/{load.transaction_id(self._dice.randint(1, self._scale))}")

    async def _ask(self, caller: int, path: str) -> None:
        reader, writer = self._connections[caller]
        writer.write(f"GET {path} HTTP/1.1\r\n{self._headers}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert head.startswith(b"HTTP/1.1 200"), head.decode(errors="replace")
        assert length is not None, "the answer does not say how long it is"
        await reader.readexactly(int(length[1]))
