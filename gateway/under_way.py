"""How many requests are under way at once, and how many bodies are waited for: neither takes the room of the other.

A request counts while it is answered, and not while its body is on its way: who sends none would keep everybody out.
As many bodies are waited for as requests may be under way. For one more, one is given up, as if its time were over:
the one that was waited for longest, of the address that most of them are to come from if that is many. An honest body
comes within moments of its headers, so it is hardly ever that one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.problems import overloaded
from services.chassis.process.telemetry import log

_TELL_SECONDS = 60.0
# Of the bodies that may be waited for, the share from which on an address is kept apart from others.
_MANY = 0.1


class UnderWay:
    """Those of one process."""

    def __init__(self, requests_max: int) -> None:
        self._most = requests_max
        self._count = 0
        # When each body is due, and the address that it is to come from; who waits longest comes first.
        self._bodies: dict[asyncio.Timeout, str] = {}
        self._addresses: Counter[str] = Counter()
        self._told_at = -_TELL_SECONDS

    @contextmanager
    def take(self) -> Iterator[None]:
        """Inside, one more request is under way. Raises: Problem: there are as many as may be."""
        if self._count >= self._most:
            raise overloaded()
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    @asynccontextmanager
    async def receive(self, address: str, seconds: float) -> AsyncIterator[None]:
        """Inside what `take` gave, the body of that request is waited for, so long at most.

        Raises:
            TimeoutError: it did not come in time, or others needed the room.
            Problem: once it was there, as many others were under way as may be.
        """
        self._count -= 1
        try:
            async with asyncio.timeout(seconds) as due:
                self._begin(due, address)
                try:
                    yield
                finally:
                    self._end(due)
        finally:
            self._count += 1
        if self._count > self._most:
            raise overloaded()

    def _begin(self, due: asyncio.Timeout, address: str) -> None:
        self._bodies[due] = address
        self._addresses[address] += 1
        if len(self._bodies) > self._most:
            self._give_one_up()

    def _end(self, due: asyncio.Timeout) -> None:
        address = self._bodies.pop(due, None)
        if address is not None:
            self._addresses[address] -= 1
            self._addresses += Counter()  # without those of which none is waited for

    def _give_one_up(self) -> None:
        [(most, count)] = self._addresses.most_common(1)
        # Who has many addresses begins one from each: then the age alone tells theirs from others.
        is_many = count > self._most * _MANY
        oldest = next(due for due, address in self._bodies.items() if address == most or not is_many)
        self._end(oldest)
        if not oldest.expired():
            oldest.reschedule(asyncio.get_running_loop().time())
        if time.monotonic() - self._told_at >= _TELL_SECONDS:
            self._told_at = time.monotonic()
            log.warning("bodies_given_up", address=most if is_many else "many", awaited=count)
