"""Delivers the events of a stand-in: at least once, in no promised order, signed anew at each try.

An event stays due until the receiver answers 2xx. Tries back off from 0.2 s to 30 s of system time with jitter; after a
restart everything undelivered is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

from sandbox.store import Store

BACKOFF_MS_FIRST = 200
BACKOFF_MS_MAX = 30_000
IN_FLIGHT_MAX = 16
REDELIVERY_DELAY_MS = 500
TIMEOUT_SECONDS = 5

log = logging.getLogger("sandbox.webhooks")


def backoff_ms(attempts: int) -> int:
    """The wait after so many failed tries (at least one): doubled each time, then capped."""
    return min(BACKOFF_MS_FIRST << min(attempts - 1, 16), BACKOFF_MS_MAX)


class Deliveries:
    """
    Args:
        header: Which has the signature.
        sign: Makes it, of a body that is about to leave.
    """

    def __init__(self, store: Store, url: str, header: str, sign: Callable[[bytes], str]) -> None:
        self._store = store
        self._url = url
        self._header = header
        self._sign = sign
        self._in_flight: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Runs until cancelled; a try that was cut off counts as not made."""
        # The receiver is a neighbour named by configuration: no proxy of the environment, no redirect.
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=False) as client,
            asyncio.TaskGroup() as tasks,
        ):
            changed = self._store.listen()
            while True:
                changed.clear()
                now_ms = _now_ms()
                for event in self._due_events(now_ms):
                    task = tasks.create_task(self._deliver(client, event))
                    self._in_flight[event["sequence"]] = task
                await wait_for_change(changed, self._find_next_seconds(now_ms))

    def _due_events(self, now_ms: int) -> list[dict[str, Any]]:
        room = IN_FLIGHT_MAX - len(self._in_flight)
        due = self._store.all(
            "SELECT * FROM events WHERE deliveries_left > 0 AND next_attempt_ms <= ? ORDER BY next_attempt_ms, sequence"
            " LIMIT ?",
            now_ms,
            IN_FLIGHT_MAX,
        )
        return [event for event in due if event["sequence"] not in self._in_flight][:room]

    def _find_next_seconds(self, now_ms: int) -> float | None:
        """Until the next one that waits for its time. What is under way, or has no room, waits for a change."""
        query = "SELECT min(next_attempt_ms) AS next_ms FROM events WHERE deliveries_left > 0 AND next_attempt_ms > ?"
        [first] = self._store.all(query, now_ms)
        return None if first["next_ms"] is None else max(0.0, (first["next_ms"] - _now_ms()) / 1000)

    async def _deliver(self, client: httpx.AsyncClient, event: dict[str, Any]) -> None:
        try:
            outcome = await self._post(client, event["body"])
            if outcome is None:
                self._record_success(event)
            else:
                self._record_failure(event, outcome)
        finally:
            del self._in_flight[event["sequence"]]

    async def _post(self, client: httpx.AsyncClient, body: bytes) -> str | None:
        """None when the receiver took it, else what went wrong."""
        headers = {
            "Content-Type": "application/json",
            self._header: self._sign(body),
        }
        try:
            response = await client.post(self._url, content=body, headers=headers)
        except httpx.HTTPError as error:
            return type(error).__name__
        return None if response.is_success else f"HTTP {response.status_code}"

    def _record_success(self, event: dict[str, Any]) -> None:
        with self._store.transaction():
            self._store.execute(
                "UPDATE events SET deliveries_left = deliveries_left - 1, next_attempt_ms = ? WHERE sequence = ?",
                _now_ms() + REDELIVERY_DELAY_MS,
                event["sequence"],
            )

    def _record_failure(self, event: dict[str, Any], outcome: str) -> None:
        attempts = event["attempts"] + 1
        wait_ms = backoff_ms(attempts)
        jittered_ms = random.randint(wait_ms // 2, wait_ms)  # noqa: S311 - jitter keeps no secret
        log.warning("%s of %s was not delivered (%s), try %d", event["type"], event["about"], outcome, attempts)
        with self._store.transaction():
            self._store.execute(
                "UPDATE events SET attempts = ?, next_attempt_ms = ? WHERE sequence = ?",
                attempts,
                _now_ms() + jittered_ms,
                event["sequence"],
            )


async def wait_for_change(changed: asyncio.Event, seconds: float | None) -> None:
    """Returns when it is set, or after so long, if that is given."""
    with suppress(TimeoutError):
        await asyncio.wait_for(changed.wait(), seconds)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
