"""A peer that speaks HTTP/2 by itself, to do what no gRPC library does for its user: take no answer."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from services.chassis.calls.certificates import Shown
from services.chassis.values.text import connection_name

# Source: RFC 9113, sections 3.4, 6 and 6.5.2
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING = 0, 1, 3, 4, 6
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_INITIAL_WINDOW_SIZE = 4


class RawPeer:
    """`seen` counts what came: answers "begun", whose message waits for a window, and calls "ended" without one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen: Counter[str] = Counter()
        self._reader, self._writer = reader, writer
        self.asked, self._stream = 0, 1
        self._write(_SETTINGS, 0, 0, _INITIAL_WINDOW_SIZE.to_bytes(2) + bytes(4), preface=_PREFACE)

    async def ask(self, service: str, method: str, count: int) -> None:
        """So many whole calls with an empty message."""
        path = f"/{method}"
        fields = {":method": "POST", ":scheme": "https", ":path": path, ":authority": connection_name(service)}
        block = b"".join(map(_literal, [*fields.items(), ("te", "trailers"), ("content-type", "application/grpc")]))
        for _ in range(count):
            self._write(_HEADERS, _END_HEADERS, self._stream, block)
            self._write(_DATA, _END_STREAM, self._stream, bytes(5))
            self._stream += 2
            self.asked += 1
            await self._writer.drain()

    def is_answered(self) -> bool:
        """Whether each call ended, or has an answer that waits."""
        return self.seen.total() == self.asked

    async def read(self) -> None:
        """Reads on until the connection ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await self._reader.readexactly(9)
                body = await self._reader.readexactly(int.from_bytes(head[:3]))
                kind, flags = head[3], head[4]
                if kind == _HEADERS:
                    self.seen["ended" if flags & _END_STREAM else "begun"] += 1
                elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                    self._write(kind, _ACK, 0, body if kind == _PING else b"")

    def _write(self, kind: int, flags: int, stream: int, body: bytes, preface: bytes = b"") -> None:
        head = len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
        self._writer.write(preface + head + body)


def _literal(field: tuple[str, str]) -> bytes:
    """As it is, and remembered by nobody. Source: RFC 7541, section 6.2.2"""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field)


@contextlib.asynccontextmanager
async def raw_peer(address: str, service: str, shown: Shown, folder: Path) -> AsyncIterator[RawPeer]:
    """A connection that has no window for the message of any answer. `folder`: for what it shows, as files."""
    files = {"chain": shown.certificates, "key": shown.key, "ca": shown.authorities}
    for name, pem in files.items():
        (folder / name).write_bytes(pem)
    context = ssl.create_default_context(cafile=str(folder / "ca"))
    context.load_cert_chain(folder / "chain", folder / "key")
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    name = connection_name(service)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
    peer = RawPeer(reader, writer)
    reading = asyncio.create_task(peer.read())
    try:
        yield peer
    finally:
        writer.transport.abort()
        await reading
