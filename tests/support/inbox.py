"""A subscription for tests that notes what it hears, and runs as a service's do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from realco.escrow.v1 import events_pb2 as events

from services.chassis.calls.auth import current_principal
from services.chassis.data.letters import Letter, list_waiting, read_letter
from services.chassis.events.consumer import Delivery, Subscription, run_subscription
from services.chassis.events.signatures import EventKeys
from services.chassis.events.stream_watch import Faults
from services.chassis.values.clock import FakeClock
from tests.support import chassis
from tests.support.chassis_events import relaying, running


class Inbox:
    """A subscription that writes a note for every event, and fails as told."""

    def __init__(self, name: str, org: str, keys: EventKeys) -> None:
        self.durable = name
        self.org = org
        self.failures: dict[str, list[Exception]] = {}
        self.seen: list[Delivery] = []
        self.order: list[str] = []
        self.subscription = Subscription(name, {events.HoldPlaced: self.on_hold}, is_about_money=True)
        self.keys = keys
        self.faults: Faults = {}

    async def on_hold(self, tx, event: events.HoldPlaced, delivery: Delivery) -> None:
        if current_principal().org_id != self.org:
            return
        self.seen.append(delivery)
        await chassis.add_note(tx, event.hold.hold_id, self.org)
        if self.failures.get(event.hold.hold_id):
            raise self.failures[event.hold.hold_id].pop(0)
        self.order.append(event.hold.hold_id)


# A test does not wait as long as a service for what it looks at now and then.
CHECK_SECONDS = 0.2


@asynccontextmanager
async def consuming(database, js, inbox, work_due=None, check_seconds=CHECK_SECONDS):
    async def run(stop):
        clock = FakeClock(chassis.NOW)
        due = work_due or asyncio.Event()
        await run_subscription(
            database, js, inbox.subscription, inbox.keys, clock, stop, due, inbox.faults, {}, check_seconds
        )

    async with relaying(database, js), running(run):
        yield


async def dead_letters(database, inbox) -> list[Letter]:
    """Those of this consumer that wait."""
    async with database.begin_for_all() as tx:
        return [await read_letter(tx, letter_id) for letter_id in await list_waiting(tx, inbox.durable)]
