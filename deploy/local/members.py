"""A process the supervisor keeps alive: started until it serves, started again when it dies, stopped when asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deploy.local.programs import Program
from deploy.local.state import describe_process

_WATCH_SECONDS = 0.1
_READY_SECONDS_MAX = 120.0  # on a crowded machine the imports alone may take half a minute
_POLL_SECONDS_MIN, _POLL_SECONDS_MAX = 0.02, 0.25
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.1, 5.0
# A process that lived this long is not failing again and again: its next restart comes at once.
_SETTLED_SECONDS = 20.0


def _nothing() -> None:
    pass


def _never() -> bool:
    return False


@dataclass
class Member:
    """`prepare` runs before each start; `may_retry` says whether to try again when the first start failed."""

    program: Program
    ready: Callable[[], bool]
    prepare: Callable[[], None] = _nothing
    may_retry: Callable[[], bool] = _never
    status: str = field(default="waiting", init=False)
    restarts: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        return self.program.name

    def describe(self) -> dict[str, Any]:
        """For instance.json."""
        known = {"status": self.status, "restarts": self.restarts, "log": str(self.program.log)}
        return describe_process(self.program.pid if self.program.running else None) | known

    async def start(self, changed: Callable[[], None]) -> None:
        """Raises: ProgramFailed if it does not come up."""
        deadline = time.monotonic() + _READY_SECONDS_MAX
        while not await self._attempt(changed):
            if time.monotonic() > deadline or self.program.running or not self.may_retry():
                code = self.program.exit_code
                ended = f"ended with status {code}" if code is not None else f"took over {_READY_SECONDS_MAX:g} s"
                self.program.kill_group()
                raise self.program.make_failure(f"{ended} before it was ready")
            await asyncio.sleep(_PAUSE_SECONDS_MIN)

    async def keep_running(self, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        """Restarts it whenever it dies, with growing pauses; ends only by being cancelled."""
        pause = _PAUSE_SECONDS_MIN
        started = time.monotonic()
        while True:
            await self.program.wait_until_ended(_WATCH_SECONDS)
            died = time.monotonic()
            if died - started > _SETTLED_SECONDS:
                pause = _PAUSE_SECONDS_MIN
            self.status = "down"
            self.restarts += 1
            changed()
            say(f"{self.name} ended with status {self.program.exit_code}; starting it again (log: {self.program.log})")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)
            started = time.monotonic()
            if await self._attempt(changed):
                say(f"{self.name} is back after {time.monotonic() - died:.1f} s")
            else:
                self.program.kill_group()  # it may hang rather than be dead

    async def _attempt(self, changed: Callable[[], None]) -> bool:
        """One start. Whether it became ready."""
        await asyncio.to_thread(self.prepare)
        self.program.start()  # not in another thread: it ends with the thread that started it
        self.status = "starting"
        changed()
        deadline = time.monotonic() + _READY_SECONDS_MAX
        poll = _POLL_SECONDS_MIN
        while self.program.running and time.monotonic() < deadline:
            if await asyncio.to_thread(self.ready):
                self.status = "ready"
                changed()
                return True
            await asyncio.sleep(poll)
            poll = min(poll * 1.25, _POLL_SECONDS_MAX)
        return False

    async def stop(self) -> None:
        """Asks it to end, waits as long as it may take, then kills it."""
        self.program.signal(self.program.stop_signal)
        try:
            await asyncio.wait_for(self.program.wait_until_ended(_POLL_SECONDS_MIN), self.program.stop_seconds)
        except TimeoutError:
            self.program.kill_group()
        self.status = "stopped"
