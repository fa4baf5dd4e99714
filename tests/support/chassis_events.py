"""What the chassis' tests of events share: the streams, a database that emits, somebody who listens."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import nats
import sqlalchemy as sa
from realco.escrow.v1 import events_pb2 as events

from deploy import provision
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data import outbox
from services.chassis.data.tables import outbox as outbox_table
from services.chassis.events import streams
from services.chassis.events.relay import run_relay
from tests.support import chassis
from tests.support.event_keys import event_key


@asynccontextmanager
async def emitting_database(urls, org: str):
    """The streams are shared with other tests; the organization that acts here is not."""
    async with chassis.opened(urls) as database:
        with acting_as(Principal("admin-1", "admin", org)):
            yield database


@asynccontextmanager
async def provisioned_streams(nats_url: str):
    """JetStream with the streams as the provisioner makes them."""
    client = await streams.connect(nats_url, "test")
    await provision.provision(client)
    yield client.jetstream()
    await client.close()


@asynccontextmanager
async def relaying(database, js, faults=None, alarms=None):
    """Inside, what the database has to tell is published."""
    told = {} if faults is None else faults, {} if alarms is None else alarms

    async def run(stop):
        await run_relay(database, js, "escrow", event_key(), stop, *told)

    async with running(run):
        yield


@asynccontextmanager
async def running(coroutine_of, *arguments, **named):
    stop = asyncio.Event()
    task = asyncio.create_task(coroutine_of(*arguments, stop, **named))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


def event_named(name: str, escrow_account_id: str = "esc_1") -> events.HoldPlaced:
    return events.HoldPlaced(hold={"hold_id": name, "escrow_account_id": escrow_account_id})


async def emit(database, *names: str) -> None:
    for name in names:
        async with database.begin() as tx:
            await outbox.enqueue(tx, event_named(name), now=chassis.NOW)


async def emit_at_once(database, *names: str) -> None:
    """In one transaction, so that they are in the stream together."""
    async with database.begin() as tx:
        for name in names:
            await outbox.enqueue(tx, event_named(name), now=chassis.NOW)


async def unpublished(database) -> int:
    async with database.begin_for_all() as tx:
        count = sa.select(sa.func.count()).where(outbox_table.c.published_at.is_(None))
        return await tx.scalar(count)


class Listener:
    """Reads the stream from here on, as anybody may, and keeps what is of its organization."""

    def __init__(self, subscription, org: str) -> None:
        self._subscription = subscription
        self._org = org
        self.messages: list = []

    async def names(self, count: int) -> list[str]:
        while len(self.messages) < count:
            message = await self._subscription.next_msg(timeout=10)
            if message.subject.split(".")[4] == self._org:
                self.messages.append(message)
        return [events.HoldPlaced.FromString(message.data).hold.hold_id for message in self.messages]


async def listening(js, org: str) -> Listener:
    new = nats.js.api.DeliverPolicy.NEW
    return Listener(await js.subscribe("realco.escrow.v1.>", ordered_consumer=True, deliver_policy=new), org)
