"""Transactional outbox: an event is a row written in the transaction that caused it, so neither exists alone.

The envelope (`EventMeta`) is filled in here and nowhere else. What an event is about and where it belongs says the
option `(realco.type.v1.event)` of its message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import asyncpg
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from realco.type.v1 import event_pb2
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.database import driver_connection, mark_enqueued
from services.chassis.data.seals import Seals, seals_of
from services.chassis.process.telemetry import current_traceparent
from services.chassis.values.ids import uuid7
from services.chassis.values.invariant import invariant

# NATS takes 256 KiB a message, headers included. A larger event would stop the relay for ever, so it is refused
# here, where the transaction can still fail.
PAYLOAD_BYTES_MAX = 248 * 1024
NO_SCOPE = "_"
OUTBOX = "outbox"

# Locked in the order of their ids. An aggregate's own row is locked before, so its numbers follow its commits.
_DRAW_VERSIONS = """
WITH drawn AS (
    INSERT INTO aggregate_versions AS known (org_id, aggregate_id, version)
    SELECT $1, aggregate_id, drawn FROM unnest($2::text[], $3::bigint[]) AS asked (aggregate_id, drawn)
    ORDER BY aggregate_id
    ON CONFLICT (org_id, aggregate_id) DO UPDATE SET version = known.version + excluded.version
    RETURNING aggregate_id, version
)
SELECT drawn.aggregate_id, drawn.version, incarnation.incarnation::text FROM drawn, incarnation
"""
_INSERT = """
INSERT INTO outbox (org_id, event_id, event_type, aggregate_id, aggregate_version, scope, payload, traceparent,
                    occurred_at, seal)
SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bytea[], $8::text[],
                         $9::timestamptz[], $10::bytea[])
"""


async def enqueue(tx: AsyncConnection, event: Message, *, now: datetime) -> None:
    """Queues `event` in the caller's name. It is published after the commit, or never.

    Args:
        now: Business time of the fact.
    """
    await enqueue_all(tx, [event], now=now)


async def enqueue_all(tx: AsyncConnection, events: Sequence[Message], *, now: datetime, actor: str = "") -> None:
    """Queues many events, in their order: two statements for a batch.

    Args:
        actor: Who caused them, if it is not the caller.
    """
    principal = current_principal()
    await write(
        await driver_connection(tx),
        [(event, actor or principal.person) for event in events],
        seals_of(tx),
        org_id=principal.org_id,
        traceparent=current_traceparent(),
        now=now,
    )
    mark_enqueued(tx)


async def write(
    connection: asyncpg.Connection,
    events: Sequence[tuple[Message, str]],
    seals: Seals,
    *,
    org_id: str,
    traceparent: str,
    now: datetime,
) -> None:
    """Queues events, each with its actor, in the connection's transaction, which is of organization `org_id`.

    Whoever commits it sets `Database.events_waiting` afterwards; `enqueue` does both.
    """
    if not events:
        return
    aggregates = [aggregate_of(event) for event, _ in events]
    versions, incarnation = await _draw_versions(connection, org_id, Counter(aggregates))
    rows = []
    for aggregate_id, (event, actor) in zip(aggregates, events, strict=True):
        versions[aggregate_id] += 1
        meta = event_pb2.EventMeta(
            event_id=str(uuid7()),
            org_id=org_id,
            aggregate_id=aggregate_id,
            aggregate_version=versions[aggregate_id],
            incarnation=incarnation,
            actor=actor,
            occur_time=to_timestamp(now),
        )
        event.meta.CopyFrom(meta)  # type: ignore[attr-defined]  # every event has one: a contract test holds it
        payload = event.SerializeToString(deterministic=True)
        invariant(len(payload) <= PAYLOAD_BYTES_MAX, "an event fits a NATS message; cut the batch it reports")
        name, scope = event.DESCRIPTOR.full_name, scope_of(event)
        seal = seals.make(OUTBOX, org_id, meta.event_id, name, scope, payload)
        rows.append((meta.event_id, name, aggregate_id, meta.aggregate_version, scope, payload, traceparent, now, seal))
    await connection.execute(_INSERT, org_id, *(list(column) for column in zip(*rows, strict=True)))


async def _draw_versions(
    connection: asyncpg.Connection, org_id: str, counts: Mapping[str, int]
) -> tuple[dict[str, int], str]:
    """Takes the next numbers of each aggregate: the last one before them, by aggregate; and the incarnation."""
    drawn = await connection.fetch(_DRAW_VERSIONS, org_id, list(counts), list(counts.values()))
    invariant(len(drawn) == len(counts), "every aggregate has its numbers, and the database its incarnation")
    return {row["aggregate_id"]: row["version"] - counts[row["aggregate_id"]] for row in drawn}, drawn[0]["incarnation"]


def aggregate_of(event: Message) -> str:
    """The id of what the event is about."""
    found = _value(event, _paths(event.DESCRIPTOR)[0])
    invariant(found != "", f"{event.DESCRIPTOR.full_name} names what it is about")
    return found


def scope_of(event: Message) -> str:
    """The last token of the event's subject: an escrow account or offering, or `_`."""
    path = _paths(event.DESCRIPTOR)[1]
    return (_value(event, path) if path else "") or NO_SCOPE


@cache
def _paths(descriptor: Descriptor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    option: Any = event_pb2.event  # generated stubs do not say which message it extends
    invariant(descriptor.GetOptions().HasExtension(option), f"{descriptor.full_name} has (realco.type.v1.event)")
    about = descriptor.GetOptions().Extensions[option]
    return tuple(about.aggregate.split(".")), tuple(about.scope.split(".")) if about.scope else ()


def _value(message: Message, path: tuple[str, ...]) -> str:
    *parents, name = path
    for parent in parents:
        message = getattr(message, parent)
    value = getattr(message, name)
    enum = message.DESCRIPTOR.fields_by_name[name].enum_type
    return str(value) if enum is None else str(enum.values_by_number[value].name)
