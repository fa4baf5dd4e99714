"""uvicorn, held to limits it does not set by itself: headers must arrive in time, and refusals are problems too."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.app import HEADER_BYTES_MAX
from gateway.problems import MEDIA_TYPE, Problem, http_only
from gateway.settings import Settings
from services.chassis.process.loops import wait_for_any

_KEEP_ALIVE_SECONDS = 75


class _Protocol(H11Protocol):
    """One connection. Until its first bytes, and between requests, uvicorn's keep-alive limit holds.

    A request whose headers do not end in time ends the connection, so that slow senders cannot hold the door.
    """

    receive_seconds_max = 10.0
    connections_max = 2000
    _headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            transport.abort()
        else:
            self._expect_headers()

    def data_received(self, data: bytes) -> None:
        if self._headers_due is None and self.conn.their_state is h11.IDLE:
            self._expect_headers()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_headers()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is answered here, before there is a request."""
        self._forget_headers()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer is on its way; it ends here
            self.transport.close()
            return
        too_large = self.conn.trailing_data[0] and len(self.conn.trailing_data[0]) > HEADER_BYTES_MAX
        if too_large:
            problem = http_only("HEADERS_TOO_LARGE")
        else:
            problem = Problem(400, "INVALID_FIELD", "This is not an HTTP request.")
        body = orjson.dumps(problem.body(f"req_{secrets.token_hex(8)}"))
        headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
        self.transport.write(
            self.conn.send(h11.Response(status_code=problem.status, headers=headers, reason=b"Refused")) or b""
        )
        self.transport.write(self.conn.send(h11.Data(data=body)) or b"")
        self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self.receive_seconds_max, self._too_slow)

    def _forget_headers(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _too_slow(self) -> None:
        self._headers_due = None
        if not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Keeps the Date of answers. uvicorn's own wakes ten times a second to look whether it is to end."""
        while not await self.on_tick(0):
            await wait_for_any(self.stopping, seconds=1.0)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the composition root's."""
        yield


class HttpServer:
    """Serves the application on the settings' port; `port` is the one in use."""

    def __init__(self, application: ASGIApp, settings: Settings) -> None:
        limits = {
            "receive_seconds_max": settings.receive_seconds_max,
            "connections_max": settings.connections_max,
        }
        protocol = type("Protocol", (_Protocol,), limits)
        self._config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            backlog=1024,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        )
        self._address = (settings.bind_host, settings.port)
        self._server = _Server(self._config)
        self._task: asyncio.Task[Any] | None = None
        self.port = 0

    async def start(self) -> bool:
        """False where the port cannot be bound."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(self._address)
        except OSError:
            listening.close()
            return False
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started and not self._task.done():  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        if self._task.done():
            self._task.result()
        return True

    async def stop(self, seconds_max: float) -> None:
        """Takes no more connections and finishes the requests in hand, for at most so long."""
        if self._task is None:
            return
        self._config.timeout_graceful_shutdown = max(1, round(seconds_max))
        self._server.should_exit = True
        self._server.stopping.set()
        await self._task
