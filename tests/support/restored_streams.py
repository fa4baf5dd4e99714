"""A restored service's own stream: what it told, and what a look through it finds."""

from __future__ import annotations

from realco.escrow.v1 import events_pb2 as events

from services.chassis.calls.restore_gate import RestoreGate
from services.chassis.data.restores import find_restore, list_forgotten
from services.chassis.events.forgotten import list_and_record
from services.chassis.events.restore_look import look_through
from services.chassis.events.restore_watch import run_restore_watch
from services.chassis.values.clock import SystemClock
from tests.support import chassis
from tests.support.chassis_events import emit, relaying, unpublished
from tests.support.restores import restored_to_here

SUBJECT = "realco.escrow.v1.HoldPlaced"
CLOCK = SystemClock()


async def tell(database, js, *names):
    async with relaying(database, js):
        await emit(database, *names)
        await chassis.until(lambda: _has_told(database))


async def _has_told(database):
    return await unpublished(database) == 0


async def forget(database, js, urls, *names):
    """These are told, and are in the database no more."""
    async with restored_to_here(urls):
        await tell(database, js, *names)


async def find_names(database, js, keys, passing=None):
    """The holds of which events are missing, by the events' own numbers in the stream."""
    async with database.begin_for_all() as tx:
        restore = await find_restore(tx)
    await look_through(database, js, "escrow", keys, restore, passing)
    found = await list_forgotten(database, restore.incarnation)
    messages = [await js.get_msg("ESCROW", row.stream_sequence) for row in found]
    return [events.HoldPlaced.FromString(message.data).hold.hold_id for message in messages]


async def see(database, js, keys, person="ops-1"):
    return await list_and_record(database, js, "escrow", keys, CLOCK, seen_by=person)


async def watching(database, js, keys, alarms, stop, gate=None):
    await run_restore_watch(database, js, "escrow", keys, stop, alarms, gate or RestoreGate(), look_seconds=0.05)
