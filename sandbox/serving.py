"""A stand-in as a process: its HTTP face and its loops, until SIGTERM or SIGINT; then it ends with status 0."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from types import FrameType
from typing import Any, Protocol, TypeVar

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette

from sandbox.webhooks import wait_for_change

S = TypeVar("S")


class Desk(Protocol):
    """Whose payments move by themselves, each at its time."""

    def advance(self) -> bool:
        """Whether anything was due, and has moved."""
        ...

    def find_next_due_ms(self) -> int | None: ...


async def move_payments(desk: Desk, changed: asyncio.Event) -> None:
    while True:
        changed.clear()
        if desk.advance():
            continue
        due_ms = desk.find_next_due_ms()
        left = None if due_ms is None else max(0.0, due_ms / 1000 - time.time())
        await wait_for_change(changed, left)


class _Server(uvicorn.Server):
    """Wakes once a second, for the Date of its answers. uvicorn's own does ten times, to look whether it is to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            await wait_for_change(self._stopping, 1.0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._stopping.set)  # a signal alone does not wake the loop


def build_server(application: Starlette, host: str, port: int) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            application,
            host=host,
            port=port,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )


async def serve(server: uvicorn.Server, loops: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Should a loop die, the group takes the server down with it and the process ends with an error."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(loop) for loop in loops]
        # uvicorn raises its signal again once it has stopped: without these the process would end by it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        await server.serve()
        for loop in running:
            loop.cancel()


def run(name: str, load: Callable[[], S], main: Callable[[S], Coroutine[Any, Any, None]]) -> None:
    """Runs `main` with its settings; ends with status 2 and what is wrong where they are not acceptable."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = load()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_context=False, include_url=False):
            place = ".".join(map(str, problem["loc"])).upper() or "settings"
            print(f"{name}: {place}: {problem['msg']}", file=sys.stderr)
        raise SystemExit(2) from None
    asyncio.run(main(settings))
