"""The outbox relay: publishes committed events to JetStream; events of one aggregate in the order of their commits.

- What is not marked is read, lowest id first; no position is remembered, so an event that commits late is never
  skipped (reliability rule c15). Who changes an aggregate holds its lock from before its event's id is drawn until the
  commit, so a lower id of the same aggregate is always committed, and read, before a higher one.
- A row is marked after the stream acknowledged its batch by an id that only this process knows. A crash or a lost
  answer publishes again under the same id; the stream drops the repeat and, for certain, so does every consumer. What
  the stream says that it has of a message alone, it must show.
- What does not bear the seal of this service was put there past it, and is never published (data/seals.py). Only the
  process remembers which rows those are: what a table says of it, a login of the database could say of ours.
- One relay at a time works for a database, whichever holds its row in `leaders`; it is safe if two do. So where events
  wait too long although somebody leads, this one relays all the same.
- It looks when a commit says so, and does not look while nothing happens; what is committed within a moment is told
  together. What was committed without a word to it is found by the watch, which wakes it.
- Who has a login can still keep rows locked. Then events wait, and the service is not ready (`watch`). Whatever else
  they wait for, it is an alarm once it takes minutes.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import quote

import asyncpg
import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

from services.chassis.data.database import LIMITS, Database
from services.chassis.data.database_errors import is_contention, is_unreadable
from services.chassis.data.leadership import LEASE_SECONDS, Leadership
from services.chassis.data.outbox import OUTBOX, SEALED_BESIDES
from services.chassis.data.seals import Seals
from services.chassis.events.hearing import Faults
from services.chassis.events.signatures import SIGNATURE, EventKey
from services.chassis.events.stored import stream_of_area
from services.chassis.events.streams import (
    MESSAGE_ID,
    BatchRefused,
    Outgoing,
    client_of,
    has_stored,
    publish_batch,
    publish_one,
)
from services.chassis.events.subjects import COMMITTED_SUBJECT, subject_of, told_subject
from services.chassis.process.health import ALARM_SECONDS, Alarms, note_alarm
from services.chassis.process.loops import GATHERING_SECONDS, repeat_work, wait_for_any
from services.chassis.process.telemetry import EVENTS_PUBLISHED, OUTBOX_OLDEST_SECONDS, ROWS_NOT_SEALED, log

BATCH_MAX = 1000  # the most messages NATS takes in one atomic batch
BATCH_BYTES_MAX = 8 * 1024 * 1024
# Who does not lead asks again so soon, as long as there may be something to tell.
_STANDBY_SECONDS = 1.0
# After so long an event is told by whichever process sees it.
OVERDUE_SECONDS = 5.0
# After so long the service is not ready, since somebody keeps its events from being told.
WITHHELD_SECONDS = 10.0
# So few messages are published one after the other: for each batch the server makes a store of its own on the disk,
# which costs more than they do.
_FEW = 3
# How often the watch looks: as long as an event waits, and while none does.
_LOOK_SECONDS = 2.0
POLL_SECONDS = 5.0

_COLUMNS = (
    "SELECT org_id, id, event_id, event_type, aggregate_id, aggregate_version, scope, payload, traceparent,"
    " occurred_at, seal, proof_digest FROM public.outbox"
)
_READ = f"{_COLUMNS} WHERE published_at IS NULL ORDER BY id LIMIT $1"
_READ_THESE = f"{_COLUMNS} WHERE published_at IS NULL AND id = ANY ($1) ORDER BY id"
_WAITING = """
SELECT id, event_id, extract(epoch FROM now() - created_at)::float8 AS seconds FROM public.outbox
WHERE published_at IS NULL ORDER BY id LIMIT $1
"""
_MARK = f"""
UPDATE public.outbox SET published_at = now(), proof = told.proof
FROM {LIMITS} limits, unnest($1::text[], $2::bigint[], $3::bytea[]) AS told (org_id, id, proof)
WHERE outbox.org_id = told.org_id AND outbox.id = told.id AND outbox.published_at IS NULL
"""  # noqa: S608
# What a CloudEvents header of NATS says as it is; the rest, as in a person's id, is percent-encoded.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
# What this process found not to be ours, by id and event id: no login can change a row's seal, or what it covers.
Foreign = set[tuple[int, uuid.UUID]]


async def run_relay(
    database: Database,
    js: JetStreamContext,
    area: str,
    key: EventKey,
    stop: asyncio.Event,
    faults: Faults,
    alarms: Alarms,
) -> None:
    """Relays until `stop` is set, through restarts of PostgreSQL and NATS.

    Args:
        faults: Says, as long as it is so, that events are withheld. While it says that the stream is at fault, none
            is published.
        alarms: Says, as long as it is so, that an event has waited for minutes, whatever for.
    """
    relay = _Relay(database, js, area, key, faults, alarms)
    await client_of(js).subscribe(COMMITTED_SUBJECT, cb=relay.hear)
    async with asyncio.TaskGroup() as both:
        both.create_task(repeat_work(f"relay:{area}", stop, lambda: relay.run(stop), alarms))
        both.create_task(repeat_work(f"outbox:{area}", stop, lambda: relay.watch(stop), alarms))
    await relay.leadership.give_up()


class _Relay:
    """One process's relay."""

    def __init__(
        self, database: Database, js: JetStreamContext, area: str, key: EventKey, faults: Faults, alarms: Alarms
    ) -> None:
        self._database, self._js, self._area, self._key = database, js, area, key
        # Another process may have committed events.
        self._news = asyncio.Event()
        # Until when what is committed here may be left to somebody who has died.
        self._unsettled_until = time.monotonic() + LEASE_SECONDS
        self._stream, self._faults, self._alarms = stream_of_area(area).name, faults, alarms
        self.leadership = Leadership(database, "relay")
        self._is_nats_away = False
        self._oldest, self._oldest_since, self._oldest_seconds = 0, 0.0, 0.0
        self._foreign: Foreign = set()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if self._stream in self._faults:
                await wait_for_any(stop, seconds=_STANDBY_SECONDS)
                continue
            if not await self._leads() and self._oldest_seconds < OVERDUE_SECONDS:
                await self._stand_by(stop)
                continue
            self._database.events_waiting.clear()
            self._news.clear()
            try:
                done = await relay_batch(self._database, self._js, self._area, self._key, self._foreign)
            except (nats.errors.Error, JetStreamError, TimeoutError):
                self._is_nats_away = True
                raise
            self._is_nats_away = False
            if not done.is_full:
                await wait_for_any(stop, seconds=GATHERING_SECONDS)
                await wait_for_any(stop, self._database.events_waiting, self._news, seconds=None)

    async def hear(self, _: Msg) -> None:
        """Another process of this service has committed events, or somebody in its name says so: to look is cheap."""
        self._news.set()

    async def _stand_by(self, stop: asyncio.Event) -> None:
        """Until it is time to ask again who leads. Tells whoever does of what is committed here meanwhile."""
        until = time.monotonic() + _STANDBY_SECONDS
        waiting = self._database.events_waiting
        self._news.clear()
        while not stop.is_set() and (seconds := until - time.monotonic()) > 0:
            if waiting.is_set():
                waiting.clear()
                self._unsettled_until = time.monotonic() + LEASE_SECONDS + _STANDBY_SECONDS
                with suppress(nats.errors.Error):  # a hint: who leads looks by itself, too
                    await client_of(self._js).publish(COMMITTED_SUBJECT)
            await wait_for_any(stop, waiting, seconds=seconds)
        if time.monotonic() >= self._unsettled_until:
            await wait_for_any(stop, waiting, self._news, seconds=None)

    async def watch(self, stop: asyncio.Event) -> None:
        """It is a fault when the oldest event stays the oldest, although NATS is there and the stream is sound."""
        faults = self._faults
        while not stop.is_set():
            oldest, seconds = await self._find_oldest()
            self._oldest_seconds = seconds
            self._note_age(oldest, seconds)
            if oldest != 0:
                self._news.set()
            now = time.monotonic()
            if oldest != self._oldest or self._is_nats_away or self._stream in faults:
                self._oldest, self._oldest_since = oldest, now
            withheld = oldest != 0 and now - self._oldest_since > WITHHELD_SECONDS
            if withheld and OUTBOX not in faults:
                log.error("events_withheld", oldest=oldest)
                faults[OUTBOX] = [f"event {oldest} is not published"]
            elif not withheld:
                faults.pop(OUTBOX, None)
            await wait_for_any(stop, seconds=_pause_after(oldest, seconds))

    def _note_age(self, oldest: int, seconds: float) -> None:
        OUTBOX_OLDEST_SECONDS.labels(self._area).set(seconds)
        found = f"event {oldest} has waited for {seconds:.0f} seconds" if seconds >= ALARM_SECONDS else ""
        before = note_alarm(self._alarms, OUTBOX, found)
        if found and not before:
            log.error("events_unpublished", found=found)
        if before and not found:
            log.warning("events_published_again")

    async def _leads(self) -> bool:
        try:
            return await self.leadership.hold()
        except Exception as error:
            if not is_contention(error):
                raise
            return False  # somebody keeps the row locked

    async def _find_oldest(self) -> tuple[int, float]:
        """The event that is next, and for how long it has waited; zeros where none does."""
        waiting = await _list_waiting(self._database, self._foreign, 1)
        return (waiting[0]["id"], max(0.0, waiting[0]["seconds"])) if waiting else (0, 0.0)


def _pause_after(oldest: int, seconds: float) -> float:
    """How long the watch waits after it found that."""
    if oldest == 0:
        return POLL_SECONDS
    # An event that is about to be overdue is told as soon as it is.
    return _LOOK_SECONDS if seconds >= OVERDUE_SECONDS else min(_LOOK_SECONDS, OVERDUE_SECONDS - seconds + 0.01)


class Batch(NamedTuple):
    """What a relay looked at.

    Args:
        is_full: There may be more.
    """

    looked_at: int
    is_full: bool


async def relay_batch(database: Database, js: JetStreamContext, area: str, key: EventKey, foreign: Foreign) -> Batch:
    """Publishes and marks the oldest events, at most BATCH_MAX.

    Args:
        foreign: Passed over; what is found not to be ours is added.
    """
    found = await _read(database, foreign)
    rows = _cut(found)
    ours = []
    for row in rows:
        if _is_ours(row, database.seals):
            ours.append(row)
            continue
        _pass_over(row, foreign)
    if ours:
        await _publish_and_mark(database, js, area, key, ours)
    return Batch(len(rows), len(rows) < len(found) or len(found) == BATCH_MAX)


def _pass_over(row: asyncpg.Record, foreign: Foreign) -> None:
    """An event that is not ours: it is told to nobody."""
    ROWS_NOT_SEALED.labels(OUTBOX).inc()
    log.error("row_not_sealed", place=OUTBOX, row=str(row["id"]))
    foreign.add((row["id"], row["event_id"]))


async def _read(database: Database, foreign: Foreign) -> Sequence[asyncpg.Record]:
    """The oldest events that wait, lowest id first."""
    try:
        if not foreign:
            return await database.send_for_all(_READ, BATCH_MAX)
        waiting = await _list_waiting(database, foreign, BATCH_MAX)
        return await database.send_for_all(_READ_THESE, [row["id"] for row in waiting]) if waiting else []
    except Exception as error:
        if not is_unreadable(error):
            raise
    rows: list[asyncpg.Record] = []
    for row in await _list_waiting(database, foreign, BATCH_MAX):
        try:
            rows += await database.send_for_all(_READ_THESE, [row["id"]])
        except Exception as error:
            if not is_unreadable(error):
                raise
            _pass_over(row, foreign)
    return rows


async def _list_waiting(database: Database, foreign: Foreign, count: int) -> Sequence[asyncpg.Record]:
    waiting = await database.send_for_all(_WAITING, count + len(foreign))
    return [row for row in waiting if (row["id"], row["event_id"]) not in foreign][:count]


async def _publish_and_mark(
    database: Database, js: JetStreamContext, area: str, key: EventKey, rows: Sequence[asyncpg.Record]
) -> None:
    await _publish(js, area, [_message(row, area, key) for row in rows])
    with suppress(nats.errors.Error):  # a hint: whoever hears this area looks by itself, too
        await client_of(js).publish(told_subject(area))
    proofs = [database.seals.prove(row["proof_digest"], OUTBOX, row["org_id"], str(row["event_id"])) for row in rows]
    await database.send_for_all(_MARK, [row["org_id"] for row in rows], [row["id"] for row in rows], proofs)
    EVENTS_PUBLISHED.labels(area).inc(len(rows))


def _is_ours(row: asyncpg.Record, seals: Seals) -> bool:
    """Whether this service wrote it."""
    told = (row["org_id"], str(row["event_id"]), *(row[name] for name in SEALED_BESIDES))
    return seals.are_sealed(row["seal"], OUTBOX, *told)


async def _publish(js: JetStreamContext, area: str, messages: Sequence[Outgoing]) -> None:
    stream = stream_of_area(area).name
    if len(messages) > _FEW:
        try:
            await publish_batch(js, stream, messages)
            return
        except BatchRefused as refusal:
            # Usually the batch was stored before and its answer was lost, so the stream knows the ids.
            log.info("batch_refused", stream=stream, messages=len(messages), reason=str(refusal))
    for message in messages:  # one after another: a failure must not let a later event overtake
        await _publish_one(js, stream, message)


async def _publish_one(js: JetStreamContext, stream: str, message: Outgoing) -> None:
    """An id that the stream knows proves nothing. What it has lost since, or stored otherwise, gets another one.

    Raises: nats.errors.Error: another message was acknowledged; send it again.
    """
    attempt = message
    while not await has_stored(js, stream, (ack := await publish_one(js, stream, attempt)).sequence, message):
        event_id = message.headers[MESSAGE_ID]
        if not ack.is_duplicate:
            log.error("event_not_stored", stream=stream, event_id=event_id, acknowledged=ack.sequence)
            raise nats.errors.Error("the stream acknowledged another message")
        log.error("event_published_again", stream=stream, event_id=event_id, lost_at=ack.sequence)
        attempt = replace(message, headers=message.headers | {MESSAGE_ID: f"{event_id}:{ack.sequence}"})


def _message(row: asyncpg.Record, area: str, key: EventKey) -> Outgoing:
    """The event with CloudEvents 1.0 headers in binary mode, signed."""
    event_id, subject = str(row["event_id"]), subject_of(row["event_type"], row["org_id"], row["scope"])
    headers = {
        MESSAGE_ID: event_id,
        SIGNATURE: key.sign(subject, event_id, row["payload"]),
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-type": row["event_type"],
        "ce-source": f"/realco/{area}",
        "ce-time": row["occurred_at"].isoformat(),
        "ce-subject": quote(row["aggregate_id"], safe=_PLAIN),
        "ce-aggregateversion": str(row["aggregate_version"]),
        "ce-dataschema": f"urn:realco:proto:realco/{area}/v1/events.proto",
        "content-type": "application/protobuf",
    }
    if row["traceparent"]:
        headers["traceparent"] = row["traceparent"]
    return Outgoing(subject, row["payload"], headers)


def _cut(rows: Sequence[asyncpg.Record]) -> Sequence[asyncpg.Record]:
    """As many rows from the front as fit a batch, and at least one."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row["payload"])
        if size > BATCH_BYTES_MAX and count > 0:
            return rows[:count]
    return rows
