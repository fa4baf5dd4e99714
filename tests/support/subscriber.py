"""A subscription for tests that notes what it hears, and runs as a service's do."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial

from realco.escrow.v1 import events_pb2 as events

from services.chassis.calls.auth import current_principal
from services.chassis.data.letters import Letter, list_waiting, read_letter
from services.chassis.data.positions import begin_position
from services.chassis.events import streams
from services.chassis.events.consumer import list_hearings, list_streams, run_subscription
from services.chassis.events.handling import Delivery, Subscription
from services.chassis.events.hearing import Faults
from services.chassis.events.signatures import EventKeys
from services.chassis.events.watch import run_watch
from services.chassis.values.clock import FakeClock
from tests.support import chassis
from tests.support.chassis_events import relaying, running


class Subscriber:
    """A subscription that writes a note for every event, and fails as told."""

    def __init__(self, name: str, org: str, keys: EventKeys) -> None:
        self.consumer = name
        self.org = org
        self.failures: dict[str, list[Exception]] = {}
        self.seen: list[Delivery] = []
        self.tried: Counter[str] = Counter()
        self.order: list[str] = []
        self.subscription = Subscription(name, {events.HoldPlaced: self.on_hold}, is_about_money=True)
        self.keys = keys
        self.faults: Faults = {}

    async def on_hold(self, tx, event: events.HoldPlaced, delivery: Delivery) -> None:
        if current_principal().org_id != self.org:
            return
        self.seen.append(delivery)
        self.tried[event.hold.hold_id] += 1
        await chassis.add_note(tx, event.hold.hold_id, self.org)
        if self.failures.get(event.hold.hold_id):
            raise self.failures[event.hold.hold_id].pop(0)
        self.order.append(event.hold.hold_id)


# A test does not wait as long as a service for what it looks at now and then.
CHECK_SECONDS = 0.2


async def hear(database, js, subscriber, hearings, stop, work_due=None, alarms=None) -> None:
    clock, due = FakeClock(chassis.NOW), work_due or asyncio.Event()
    about = subscriber.subscription, hearings, subscriber.keys, clock, stop, due
    await run_subscription(database, js, *about, subscriber.faults, {} if alarms is None else alarms)


async def watch(database, js, subscriber, hearings, stop, alarms=None, check_seconds=CHECK_SECONDS) -> None:
    heard = list_streams("escrow", [subscriber.subscription])
    alarms = {} if alarms is None else alarms
    await run_watch(database, js, heard, hearings, stop, subscriber.faults, alarms, check_seconds, check_seconds)


async def begin_hearing(database, js, subscriber) -> None:
    """It hears what is published from now on."""
    for hearing in list_hearings(subscriber.subscription):
        stream = await streams.fetch_stream(js, hearing.stream)
        last = stream["state"]["last_seq"]
        async with database.begin_for_all() as tx:
            about = hearing.consumer, hearing.stream, stream["created"]
            await begin_position(tx, *about, before=last, last=last, handlers=hearing.handlers)


@asynccontextmanager
async def consuming(database, js, subscriber, work_due=None, check_seconds=CHECK_SECONDS, alarms=None):
    """One process of a service: it tells, hears and watches."""
    hearings = list_hearings(subscriber.subscription)
    about = database, js, subscriber, hearings
    watching = running(partial(watch, *about), alarms=alarms, check_seconds=check_seconds)
    async with relaying(database, js), running(partial(hear, *about), work_due=work_due, alarms=alarms), watching:
        yield hearings


async def dead_letters(database, subscriber) -> list[Letter]:
    """Those of this consumer that wait."""
    async with database.begin_for_all() as tx:
        return [await read_letter(tx, letter_id) for letter_id in await list_waiting(tx, subscriber.consumer)]
