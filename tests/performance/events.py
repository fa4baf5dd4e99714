"""Events from the commit that told them to the handler that took them, and a read model that is built from them anew.

- Relay, consumer and watch are the chassis' own, all in the benchmark's process: in an installation those who tell and
  those who hear are two processes, so the figure is the lower one.
- The handler does nothing, so what is measured is what every event costs. The order is looked at, event by event.
- Beside it: the same stream read from end to end, nothing proven, nothing handled.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.js import JetStreamContext
from realco.escrow.v1 import events_pb2

from deploy.local.postgres import Postgres
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data import outbox
from services.chassis.data.database import Database
from services.chassis.data.transaction import Tx
from services.chassis.events.handling import Delivery, Subscription
from services.chassis.events.hearing import Faults
from services.chassis.events.reader import Reader
from tests.performance import load
from tests.performance.measure import Results
from tests.support import chassis, servers
from tests.support.chassis_events import provisioned_streams
from tests.support.event_keys import event_keys
from tests.support.read_model import read_events
from tests.support.seals import SEALS
from tests.support.subscriber import begin_hearing, consuming

AGGREGATES, EVENTS_A_COMMIT, TELLERS = 100, 10, 8
_SECONDS_MAX = 120.0
_READ_AT_ONCE = 256
_STREAM = "ESCROW"


class Hearer:
    """A consumer that notes what it was told, and does nothing with it."""

    def __init__(self, folder: Path) -> None:
        self.consumer = "bench"
        self.subscription = Subscription(self.consumer, {events_pb2.HoldPlaced: self.on_hold}, is_about_money=True)
        self.keys = event_keys(folder)
        self.faults: Faults = {}
        self.count = 0
        self.heard: dict[str, list[int]] = defaultdict(list)  # by aggregate

    async def on_hold(self, _: Tx, event: Any, __: Delivery) -> None:
        self.count += 1
        self.heard[event.hold.escrow_account_id].append(int(event.hold.hold_id))


class Events:
    """A little service's database, a NATS server, and who tells and hears."""

    def __init__(self, database: Database, js: JetStreamContext, url: str, hearer: Hearer) -> None:
        self._database, self._js, self._url, self._hearer = database, js, url, hearer
        self._numbers = itertools.count()

    @classmethod
    @asynccontextmanager
    async def opened(cls, cluster: Postgres, folder: Path) -> AsyncIterator[Events]:
        urls = await chassis.create(cluster)
        database = Database(urls.app_url, urls.worker_url, "chassis", SEALS)
        with servers.nats(folder) as url, acting_as(Principal("admin-1", "admin", load.ORG)):
            async with provisioned_streams(url) as js:
                try:
                    yield cls(database, js, url, Hearer(folder))
                finally:
                    await database.dispose()

    async def measure(self, results: Results, rounds: int, count: int) -> None:
        """Raises: AssertionError where an event is missing, or precedes one that was told before."""
        await begin_hearing(self._database, self._js, self._hearer)
        async with consuming(self._database, self._js, self._hearer, check_seconds=1.0):
            await self._tell_and_hear(EVENTS_A_COMMIT * AGGREGATES)  # connections, plans and caches; not measured
            for _ in range(rounds):
                results.note("events, end to end", per_second=await self._tell_and_hear(count))
        for account, numbers in self._hearer.heard.items():
            assert numbers == sorted(set(numbers)), f"the events of {account} were not heard in order, each once"
        for _ in range(rounds):
            results.note("events, read alone", per_second=await self._read_stream())
            results.note("events, read model", per_second=await self._build_read_model())

    async def _tell_and_hear(self, count: int) -> float:
        """Returns: how many a second, from the first commit to the last that was handled."""
        before = self._hearer.count
        commits = iter(range(count // EVENTS_A_COMMIT))
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for teller in range(TELLERS):
                group.create_task(self._tell(teller, commits))
        await chassis.until(lambda: self._hearer.count - before >= count, seconds=_SECONDS_MAX)
        return (self._hearer.count - before) / (time.perf_counter() - began)

    async def _tell(self, teller: int, commits: Any) -> None:
        """Each teller has its own aggregates, so their order is that of its commits."""
        for commit in commits:
            account = f"esc_{teller}_{commit % (AGGREGATES // TELLERS)}"
            events = [_placed(next(self._numbers), account) for _ in range(EVENTS_A_COMMIT)]
            async with self._database.begin() as tx:
                await outbox.enqueue_all(tx, events, now=chassis.NOW)

    async def _read_stream(self) -> float:
        began, after = time.perf_counter(), 0
        reader = Reader(self._js, _STREAM)
        while messages := await reader.read(after, _READ_AT_ONCE):
            after = messages[-1].sequence
        return after / (time.perf_counter() - began)

    async def _build_read_model(self) -> float:
        began = time.perf_counter()
        model = await read_events(self._url, load.ORG)
        taken = time.perf_counter() - began
        assert not model.faults, model.faults[:3]
        assert sum(model.versions.values()) == self._hearer.count, "the read model has not heard of all events"
        return sum(model.versions.values()) / taken


def _placed(number: int, account: str) -> events_pb2.HoldPlaced:
    return events_pb2.HoldPlaced(hold={"hold_id": str(number), "escrow_account_id": account, "status": "PLACED"})
