"""How often somebody asked: requests counted against rates, here and at the other gateways.

Counting waits for nobody. What was counted here is told to the other gateways afterwards, and what they tell is added,
so that a rate is one over all of them a moment later (docs/adr/0024). A name is counted by its digest: so a message has
a bounded size and does not spell out who asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import limits
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from pydantic import Field, StringConstraints, TypeAdapter

from gateway.settings import Settings

Kind = Literal["address", "refused", "organization", "principal", "guarded"]

# Of a message. Beyond that, the names with the smallest numbers are not told.
_NAMES_MAX = 1000
_NUMBER_MAX = 1_000_000
_BYTES_MAX = 64 * 1024
# Beyond that, what others tell is added for names that asked here as well: no message fills the memory. Nor are more
# names kept to be told: while NATS is away, nobody takes them.
_NAMES_HELD_MAX = 20_000

_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
_Number = Annotated[int, Field(strict=True, ge=1, le=_NUMBER_MAX)]
_MESSAGE = TypeAdapter(dict[str, Any])
_NUMBERS = TypeAdapter(dict[_Digest, _Number])


@dataclass(frozen=True, slots=True)
class Allowance:
    """What somebody may still ask for, of one rate.

    Args:
        seconds: Until there is more of it.
    """

    most: int
    left: int
    seconds: int

    def headers(self) -> dict[str, str]:
        told = {"Limit": self.most, "Remaining": self.left, "Reset": self.seconds}
        return {f"RateLimit-{name}": str(value) for name, value in told.items()}


class Counters:
    """The counts of this process. `take_untold` and `add` are for who carries them between gateways."""

    def __init__(self, settings: Settings) -> None:
        self._rates: dict[Kind, limits.RateLimitItem] = {
            "address": limits.parse(settings.rate_per_address),
            "refused": limits.parse(settings.rate_of_refused_tokens),
            "organization": limits.parse(settings.rate_per_organization),
            "principal": limits.parse(settings.rate_per_principal),
            "guarded": limits.parse(settings.rate_of_guarded_calls),
        }
        self._storage = MemoryStorage()
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        # None: nobody carries it anywhere, so nothing is kept.
        self._untold: Counter[tuple[Kind, str]] | None = None
        # Set while there is something to tell.
        self.counted = asyncio.Event()

    async def count(self, kind: Kind, name: str, cost: int) -> bool:
        """Whether it was within the rate; what was not is not counted."""
        rate, digest = self._rates[kind], _digest(kind, name)
        # A batch of more items than the whole rate costs all of it: there must be a time when it passes.
        cost = min(cost, max(1, rate.amount - 1))
        if not await self._limiter.hit(rate, digest, cost=cost):
            return False
        if self._untold is not None and (len(self._untold) < _NAMES_HELD_MAX or (kind, digest) in self._untold):
            self._untold[kind, digest] += cost
            self.counted.set()
        return True

    async def read_allowance(self, kind: Kind, name: str) -> Allowance:
        rate = self._rates[kind]
        window = await self._limiter.get_window_stats(rate, _digest(kind, name))
        return Allowance(rate.amount, max(0, window.remaining), max(1, math.ceil(window.reset_time - time.time())))

    def take_untold(self) -> bytes | None:
        """The message about what was counted since the last call. The first call begins it."""
        untold, self._untold = self._untold, Counter()
        self.counted.clear()
        if not untold:
            return None
        message: dict[str, dict[str, int]] = {}
        for (kind, digest), number in untold.most_common(_NAMES_MAX):
            message.setdefault(kind, {})[digest] = min(number, _NUMBER_MAX)
        return _MESSAGE.dump_json(message)

    async def add(self, message: bytes) -> None:
        """Adds what another gateway counted, even beyond the rate: it has admitted it.

        What this release does not count is left out: gateways of two run side by side while one replaces the other.

        Raises:
            ValueError: it is no such message.
        """
        if len(message) > _BYTES_MAX:
            raise ValueError("more bytes than such a message has")
        told = _MESSAGE.validate_json(message)
        known = [(rate, _NUMBERS.validate_python(told[kind])) for kind, rate in self._rates.items() if kind in told]
        for rate, numbers in known:
            seconds = rate.get_expiry()
            for digest, number in numbers.items():
                # As the limiter's own `hit` does, which would not go beyond the rate.
                _, window = self._storage.sliding_window_keys(rate.key_for(digest), seconds, time.time())
                if len(self._storage.storage) < _NAMES_HELD_MAX or window in self._storage.storage:
                    await self._storage.incr(window, 2 * seconds, number)


def _digest(kind: Kind, name: str) -> str:
    return hashlib.blake2b(f"{kind}/{name}".encode(), digest_size=16).hexdigest()
