"""After a restore: finds in the service's own stream what it told before and its database does not have.

- Only what the service has signed counts, so nobody else who writes into the stream makes a loss up. What is signed
  with a key of the service's that is not known any more is not passed over: its public key is put back first. To hide
  one, they would have to take messages out of it: that is a gap, and nothing passes for looked through.
- What another incarnation told is looked for in the outbox by its id. One that is older than the outbox remembers is
  missing if its number is beyond the one that its aggregate was restored with.
- How far the stream was looked through is a position of this incarnation, moved in the transaction that keeps what was
  found. So several processes look through it together, and each loss is kept once.

As long as nobody said that they have seen what is missing (forgotten.py), no yes counts, no other service is answered
(calls/restore_gate.py), and an alarm says so.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import nats.errors
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError
from realco.type.v1.event_pb2 import EventMeta

from services.chassis.calls.restore_gate import RestoreGate
from services.chassis.calls.wire import from_timestamp
from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_transient
from services.chassis.data.positions import OutOfTurn, begin_position, move_position, set_position, take_position
from services.chassis.data.restores import count_forgotten, find_restore, list_missing, note_forgotten
from services.chassis.data.seals import NotSealed
from services.chassis.data.transaction import Tx
from services.chassis.events import streams
from services.chassis.events.signatures import EventKeys, KeyNotKnown, NotProven
from services.chassis.events.stored import stream_of_area
from services.chassis.events.subjects import event_type_of
from services.chassis.process.health import Alarms, note_alarm
from services.chassis.process.loops import repeat_work, wait_for_any
from services.chassis.process.telemetry import log
from services.chassis.values.errors import Unavailable
from services.chassis.values.position import Position
from services.chassis.values.restore import Restore, Told, spell_count

# Under this name stands how far the service has looked through its own stream.
CONSUMER = "forgotten_events"
ALARM = "restore"
LOOK_SECONDS, REMIND_SECONDS = 15.0, 60.0
_READ_MAX, _PAUSE_SECONDS = 256, 0.1
_META = 1  # every event's field of it: a contract test holds that


class NotLookedThrough(Exception):
    """The stream could not be looked through to its end; the message says why."""


class _OfBefore(NamedTuple):
    """A message in which this service told an event in another incarnation."""

    message: streams.Heard
    meta: EventMeta
    told: Told


async def look_through(
    database: Database, js: JetStreamContext, area: str, keys: EventKeys, restore: Restore, after: int | None = None
) -> None:
    """Keeps what is missing, up to where the stream ends now.

    Args:
        after: Begins after that message at the earliest: a person says that those before it are lost.

    Raises:
        NotLookedThrough: it has a gap, or cannot be read now.
    """
    stream = stream_of_area(area).name
    try:
        info = await streams.fetch_stream(js, stream)
        if info is None:
            raise NotLookedThrough("the stream is missing")
        if after is not None:
            await _pass_over(database, stream, info, after)
        async with streams.Reader(js, stream) as reader:
            while True:
                async with database.begin_for_all() as tx:
                    position = await _begin(tx, stream, info)
                if position.stream_sequence >= info["state"]["last_seq"]:
                    return
                messages = await reader.read(position.stream_sequence, _READ_MAX, position.stored_at)
                if not messages:
                    raise NotLookedThrough("the stream ends earlier than it said")
                found, checked = await _list_of_before(messages, area, keys, restore.incarnation)
                if not checked:
                    raise NotLookedThrough(
                        f"message {messages[0].sequence} is signed with a key that is not in EVENT_JWKS: put its public"
                        f" key there, or go on after it with --after {messages[0].sequence}"
                    )
                if not await _keep_missing(database, stream, position, checked[-1], found, restore):
                    await asyncio.sleep(_PAUSE_SECONDS)
    except streams.Gap as gap:
        raise NotLookedThrough(f"the stream {gap}") from None
    except NotSealed as moved:
        raise NotLookedThrough(str(moved)) from None
    except (nats.errors.Error, JetStreamError, TimeoutError, Unavailable) as error:  # the last: no keys to check with
        raise NotLookedThrough(f"it cannot be read or checked now: {type(error).__name__}") from None


async def _begin(tx: Tx, stream: str, info: Any) -> Position:
    """How far the stream was looked through; where it was not, it begins before the first message."""
    created, first, last = info["created"], info["state"]["first_seq"], info["state"]["last_seq"]
    found = await begin_position(tx, CONSUMER, stream, created, max(0, first - 1), last, frozenset())
    assert found is not None, "it was begun just now"
    return found


async def _pass_over(database: Database, stream: str, info: Any, after: int) -> None:
    """Has everything up to that message pass for looked through, unless it was, or the stream ends before it."""
    async with database.begin_for_all() as tx:
        position = await _begin(tx, stream, info)
        if position.stream_sequence < after <= info["state"]["last_seq"]:
            log.warning("messages_passed_over", stream=stream, after=position.stream_sequence, through=after)
            await set_position(tx, CONSUMER, stream, info["created"], after, frozenset())


async def _list_of_before(
    messages: Sequence[streams.Heard], area: str, keys: EventKeys, living: str
) -> tuple[list[_OfBefore], Sequence[streams.Heard]]:
    """Those of the messages that this service told in another incarnation than the living one, and which of the
    messages were checked for it: those before one whose key is not known.
    """
    found: list[_OfBefore] = []
    for place, message in enumerate(messages):
        if streams.area_of(message.subject) != area:
            continue
        try:
            await keys.check(message.subject, message.headers, message.data)
        except KeyNotKnown:
            return found, messages[:place]
        except NotProven:
            continue
        if (meta := _read_meta(message.data)) is not None and meta.incarnation != living:
            found.append(_OfBefore(message, meta, _read_told(meta)))
    return found, messages


def _read_meta(data: bytes) -> EventMeta | None:
    """The envelope of an event, whichever it is: a release that was restored as well may not know it."""
    try:
        fields: Any = UnknownFieldSet(Empty.FromString(data))  # its stubs know no iteration
        return next((EventMeta.FromString(each.data) for each in fields if each.field_number == _META), None)
    except (DecodeError, TypeError):
        return None


def _read_told(meta: EventMeta) -> Told:
    event_id = uuid.UUID(meta.event_id)
    made_at = datetime.fromtimestamp((event_id.int >> 80) / 1000, UTC)  # its id begins with that (values/ids.py)
    return Told(meta.org_id, event_id, made_at, meta.aggregate_id, meta.aggregate_version)


async def _keep_missing(
    database: Database,
    stream: str,
    position: Position,
    last: streams.Heard,
    found: Sequence[_OfBefore],
    restore: Restore,
) -> bool:
    """False where another process is at it, or has been there."""
    async with database.begin_for_all() as tx:
        try:
            await take_position(tx, CONSUMER, stream, position)
        except OutOfTurn:
            return False
        missing = await list_missing(tx, [each.told for each in found])
        await note_forgotten(tx, [_to_row(found[place], restore) for place in missing])
        moved = replace(position, stream_sequence=last.sequence, stored_at=last.stored_at)
        await move_position(tx, CONSUMER, stream, moved)
    return True


def _to_row(each: _OfBefore, restore: Restore) -> dict[str, Any]:
    return {
        "org_id": each.told.org_id,
        "incarnation": restore.incarnation,
        "event_id": str(each.told.event_id),
        "event_type": event_type_of(each.message.subject),
        "aggregate_id": each.told.aggregate_id,
        "actor": each.meta.actor,
        "occurred_at": from_timestamp(each.meta.occur_time),
        "stream_sequence": each.message.sequence,
    }


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
                found = await _look(database, js, area, keys, gate)
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


async def _look(database: Database, js: JetStreamContext, area: str, keys: EventKeys, gate: RestoreGate) -> str:
    """What nobody has seen, with the command; empty where there is nothing."""
    async with database.begin_for_all() as tx:
        restore = await find_restore(tx)
    gate.note(restore)
    if restore is None or restore.is_seen:
        return ""
    so_far = ""
    try:
        await look_through(database, js, area, keys, restore)
    except NotLookedThrough as why:
        log.warning("stream_not_looked_through", why=str(why))
        so_far = " so far"
    async with database.begin_for_all() as tx:
        count = await count_forgotten(tx, restore.incarnation)
    return (
        f"{spell_count(count)} missing{so_far}, no yes counts until somebody looked:"
        f" python -m services.chassis.events.forgotten {area} --seen-by NAME"
    )
