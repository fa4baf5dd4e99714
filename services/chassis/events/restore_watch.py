"""After a restore: as long as nobody said that they have seen what is missing (forgotten.py), no yes counts, no other
service is answered (calls/restore_gate.py), and an alarm says so, whatever becomes of the look (restore_look.py).
"""

from __future__ import annotations

import asyncio
import time

from nats.js import JetStreamContext

from services.chassis.calls.restore_gate import RestoreGate
from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_transient
from services.chassis.data.passed_messages import count_unread
from services.chassis.data.restores import count_forgotten, find_restore
from services.chassis.events.restore_look import NotLookedThrough, look_through
from services.chassis.events.signatures import EventKeys
from services.chassis.process.health import Alarms, note_alarm
from services.chassis.process.loops import repeat_work, wait_for_any
from services.chassis.process.telemetry import log
from services.chassis.values.restore import Restore, spell_count

ALARM = "restore"
LOOK_SECONDS, REMIND_SECONDS = 15.0, 60.0


async def run_restore_watch(
    database: Database,
    js: JetStreamContext,
    area: str,
    keys: EventKeys,
    stop: asyncio.Event,
    alarms: Alarms,
    gate: RestoreGate,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Looks until somebody has seen what is missing, or `stop` is set. `alarms` and `gate` hear whether."""

    async def watch() -> None:
        said_at = 0.0
        while not stop.is_set():
            try:
                found = await _look(database, js, area, keys, gate, alarms)
            except Exception as unknown:
                if not is_transient(unknown):
                    raise
                log.info("restore_not_checked", error=type(unknown).__name__)
                await wait_for_any(stop, seconds=look_seconds)
                continue
            note_alarm(alarms, ALARM, found)
            if not found:
                await wait_for_any(stop, seconds=None)
                return
            if time.monotonic() - said_at >= REMIND_SECONDS:
                said_at = time.monotonic()
                log.error("restore_not_seen", found=found)
            await wait_for_any(stop, seconds=look_seconds)

    await repeat_work(f"restore:{area}", stop, watch, alarms)


async def _look(
    database: Database, js: JetStreamContext, area: str, keys: EventKeys, gate: RestoreGate, alarms: Alarms
) -> str:
    """What nobody has seen, with the command; empty where there is nothing."""
    async with database.begin_for_all() as tx:
        restore = await find_restore(tx)
    gate.note(restore)
    if restore is None or restore.is_seen:
        return ""
    command = f"no yes counts until somebody looked: python -m services.chassis.events.forgotten {area} --seen-by NAME"
    if ALARM not in alarms:
        note_alarm(alarms, ALARM, f"what is missing is not known yet, {command}")
    so_far = ""
    try:
        await look_through(database, js, area, keys, restore)
    except NotLookedThrough as why:
        log.warning("stream_not_looked_through", why=str(why))
        so_far = " so far"
    return f"{await _count(database, restore, so_far)}, {command}"


async def _count(database: Database, restore: Restore, so_far: str) -> str:
    async with database.begin_for_all() as tx:
        missing = await count_forgotten(tx, restore.incarnation)
        unread = await count_unread(tx, restore.incarnation)
    counted = f"{spell_count(missing)} missing{so_far}"
    return f"{counted}, {unread:,} messages passed over" if unread else counted
