"""The outbox relay: publishes committed events to JetStream; events of one aggregate in the order of their commits.

- What is not marked is read, lowest id first; no position is remembered, so an event that commits late is never
  skipped (reliability rule c15). Who changes an aggregate holds its lock from before its event's id is drawn until the
  commit, so a lower id of the same aggregate is always committed, and read, before a higher one.
- A row is marked after the stream acknowledged it. A crash or a lost answer publishes again under the same id; the
  stream and, for certain, every consumer's inbox drop the repeat.
- What does not bear the seal of this service was put there past it, and is never published (data/seals.py).
- One relay at a time works for a database, whichever holds its row in `leaders`; it would be safe if two did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
from nats.js import JetStreamContext

from services.chassis.data.database import Database, driver_connection
from services.chassis.data.leadership import Leadership
from services.chassis.data.outbox import OUTBOX
from services.chassis.data.seals import NotSealed, Seals
from services.chassis.events.signatures import SIGNATURE, EventKey
from services.chassis.events.streams import MESSAGE_ID, BatchRefused, Outgoing, publish_batch, publish_one, subject_of
from services.chassis.process.loops import keep_going, wait_for_any
from services.chassis.process.telemetry import EVENTS_PUBLISHED, OUTBOX_OLDEST_SECONDS, log

BATCH_MAX = 1000  # the most messages NATS takes in one atomic batch
BATCH_BYTES_MAX = 8 * 1024 * 1024
# What another process of this service committed is found by looking; our own commits wake us.
POLL_SECONDS = 0.2
_STANDBY_SECONDS = 1.0

_READ = """
SELECT id, event_id, event_type, aggregate_id, aggregate_version, scope, payload, org_id, traceparent, occurred_at,
       seal, extract(epoch FROM now() - created_at)::float8 AS age_seconds
FROM outbox
WHERE published_at IS NULL AND refused_at IS NULL
ORDER BY id
LIMIT $1
"""
_MARK = "UPDATE outbox SET published_at = now() WHERE id = ANY($1::bigint[]) AND published_at IS NULL"
_REFUSE = "UPDATE outbox SET refused_at = now() WHERE id = ANY($1::bigint[])"


async def run_relay(database: Database, js: JetStreamContext, area: str, key: EventKey, stop: asyncio.Event) -> None:
    """Relays until `stop` is set, through restarts of PostgreSQL and NATS."""
    leadership = Leadership(database, "relay")

    async def relay() -> None:
        while not stop.is_set():
            if not await leadership.hold():
                await wait_for_any(stop, seconds=_STANDBY_SECONDS)
                continue
            database.events_waiting.clear()
            if await relay_batch(database, js, area, key) == 0:
                await wait_for_any(stop, database.events_waiting, seconds=POLL_SECONDS)

    await keep_going(f"relay:{area}", stop, relay)
    await leadership.give_up()


async def relay_batch(database: Database, js: JetStreamContext, area: str, key: EventKey) -> int:
    """Publishes and marks the oldest events, at most BATCH_MAX; returns how many."""
    async with database.begin_for_all() as tx:
        connection = await driver_connection(tx)
        rows = _cut(await connection.fetch(_READ, BATCH_MAX))
    OUTBOX_OLDEST_SECONDS.labels(area).set(max(0.0, rows[0]["age_seconds"]) if rows else 0)
    if not rows:
        return 0
    ours = [row for row in rows if _is_ours(row, database.seals)]
    if ours:
        await _publish(js, area, [_message(row, area, key) for row in ours])
    published = {row["id"] for row in ours}
    async with database.begin_for_all() as tx:
        connection = await driver_connection(tx)
        await connection.execute(_MARK, published)
        if refused := {row["id"] for row in rows} - published:
            await connection.execute(_REFUSE, refused)
    EVENTS_PUBLISHED.labels(area).inc(len(ours))
    return len(rows)


def _is_ours(row: asyncpg.Record, seals: Seals) -> bool:
    """Whether this service wrote it: what a role of the database put there is told to nobody."""
    told = (row["org_id"], str(row["event_id"]), row["event_type"], row["scope"], row["payload"])
    try:
        seals.check(row["seal"], OUTBOX, str(row["id"]), *told)
    except NotSealed:
        return False
    return True


async def _publish(js: JetStreamContext, area: str, messages: Sequence[Outgoing]) -> None:
    stream = area.upper()
    if len(messages) > 1:
        try:
            await publish_batch(js, stream, messages)
            return
        except BatchRefused as refusal:
            # Usually the batch was stored before and its answer was lost, so the stream knows the ids.
            log.info("batch_refused", stream=stream, messages=len(messages), reason=str(refusal))
    for message in messages:  # one after another: a failure must not let a later event overtake
        await publish_one(js, stream, message)


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
        "ce-subject": row["aggregate_id"],
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
