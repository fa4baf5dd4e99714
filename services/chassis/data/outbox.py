"""Transactional outbox: an event is a row written in the transaction that caused it, so neither exists alone.

The envelope (`EventMeta`) is filled in here and nowhere else, and here each event loses what no event carries and is
cut into messages that NATS takes (event_messages.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from google.protobuf.message import Message
from realco.type.v1 import event_pb2

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.event_messages import PAYLOAD_BYTES_MAX, aggregate_of, cut, leave_out, scope_of
from services.chassis.data.seals import Seals, seals_of
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import note_versions
from services.chassis.process.telemetry import current_traceparent
from services.chassis.values.ids import uuid7
from services.chassis.values.invariant import invariant

OUTBOX = "outbox"
# What the seal of an event covers besides its organization and its id: whatever is told of it.
SEALED_BESIDES = (
    *("event_type", "aggregate_id", "aggregate_version", "scope", "payload", "traceparent"),
    "occurred_at",
)

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
                    occurred_at, seal, proof_digest)
SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bytea[], $8::text[],
                         $9::timestamptz[], $10::bytea[], $11::bytea[])
"""
# The same for one aggregate whose next number is known: nothing is done where another one is next by now, or the
# database lives another life.
_OF_THIS_LIFE = "incarnation.incarnation = $14::text::uuid"
_INSERT_FIRST = f"""
WITH drawn AS (
    INSERT INTO aggregate_versions (org_id, aggregate_id, version)
    SELECT $1, $12, $13 FROM incarnation WHERE {_OF_THIS_LIFE}
    ON CONFLICT DO NOTHING RETURNING version
)
{_INSERT} WHERE EXISTS (SELECT FROM drawn)
"""  # noqa: S608  # all of it stands here
_INSERT_NEXT = f"""
WITH drawn AS (
    UPDATE aggregate_versions AS known SET version = $13 FROM incarnation
    WHERE known.org_id = $1 AND known.aggregate_id = $12 AND known.version = $15 AND {_OF_THIS_LIFE}
    RETURNING known.version
)
{_INSERT} WHERE EXISTS (SELECT FROM drawn)
"""  # noqa: S608
_REMEMBERED_MAX = 10_000


async def enqueue(tx: Tx, event: Message, *, now: datetime) -> None:
    """Queues `event` in the caller's name. It is published after the commit, or never.

    Args:
        now: Business time of the fact.
    """
    await enqueue_all(tx, [event], now=now)


async def enqueue_all(tx: Tx, events: Sequence[Message], *, now: datetime, actor: str = "") -> None:
    """Queues many events, in their order: one statement or two for a batch.

    Args:
        actor: Who caused them, if it is not the caller.
    """
    principal = current_principal()
    drawn = await write(
        tx.driver,
        [(event, actor or principal.person) for event in events],
        seals_of(tx),
        org_id=principal.org_id,
        traceparent=current_traceparent(),
        now=now,
    )
    note_versions(tx, drawn)
    tx.has_events = True


async def write(
    connection: asyncpg.Connection,
    events: Sequence[tuple[Message, str]],
    seals: Seals,
    *,
    org_id: str,
    traceparent: str,
    now: datetime,
) -> dict[str, int]:
    """Queues events, each with its actor, in the connection's transaction, which is of organization `org_id`.

    Whoever commits it sets `Database.events_waiting` afterwards; `enqueue` does both.

    Returns: The last number of each aggregate.
    """
    if not events:
        return {}
    parts = []
    for event, actor in events:
        leave_out(event)
        parts += [(part, actor) for part in cut(event)]
    batch = _Batch(org_id, parts, [aggregate_of(part) for part, _ in parts], seals, traceparent, now)
    counts = Counter(batch.aggregates)
    if len(counts) == 1 and _last.incarnation:
        [(aggregate_id, count)] = counts.items()
        known = _last.versions.get((org_id, aggregate_id), 0)
        columns = batch.build_columns({aggregate_id: known}, _last.incarnation)
        drawn = aggregate_id, known + count, _last.incarnation
        if known:
            done = await connection.execute(_INSERT_NEXT, org_id, *columns, *drawn, known)
        else:
            done = await connection.execute(_INSERT_FIRST, org_id, *columns, *drawn)
        if done == f"INSERT 0 {len(parts)}":
            _last.note(org_id, {aggregate_id: known + count}, _last.incarnation)
            return {aggregate_id: known + count}
    before, incarnation = await _draw_versions(connection, org_id, counts)
    await connection.execute(_INSERT, org_id, *batch.build_columns(before, incarnation))
    after = {aggregate_id: before[aggregate_id] + count for aggregate_id, count in counts.items()}
    _last.note(org_id, after, incarnation)
    return after


class _Last:
    """The numbers that this process drew last: the next ones follow them, unless somebody else drew some, or what drew
    them was undone. Whoever goes by them has the database check it.
    """

    def __init__(self) -> None:
        self.versions: dict[tuple[str, str], int] = {}
        self.incarnation = ""

    def note(self, org_id: str, versions: Mapping[str, int], incarnation: str) -> None:
        if len(self.versions) + len(versions) > _REMEMBERED_MAX:
            self.versions.clear()
        self.versions |= {(org_id, aggregate_id): version for aggregate_id, version in versions.items()}
        self.incarnation = incarnation


_last = _Last()


@dataclass(frozen=True)
class _Batch:
    """Events that are queued together, each with its actor and what it is about."""

    org_id: str
    parts: Sequence[tuple[Any, str]]
    aggregates: Sequence[str]
    seals: Seals
    traceparent: str
    now: datetime

    def build_columns(self, before: Mapping[str, int], incarnation: str) -> list[list[Any]]:
        """The columns of their rows.

        Args:
            before: The last number of each aggregate before them.
        """
        versions, occur_time, rows = dict(before), to_timestamp(self.now), []
        for aggregate_id, (event, actor) in zip(self.aggregates, self.parts, strict=True):
            versions[aggregate_id] += 1
            meta = event_pb2.EventMeta(
                event_id=str(uuid7()),
                org_id=self.org_id,
                aggregate_id=aggregate_id,
                aggregate_version=versions[aggregate_id],
                incarnation=incarnation,
                actor=actor,
                occur_time=occur_time,
            )
            event.meta.CopyFrom(meta)  # every event has one: a contract test holds it
            rows.append(self._build_row(meta, event))
        return [list(column) for column in zip(*rows, strict=True)]

    def _build_row(self, meta: event_pb2.EventMeta, event: Any) -> tuple[Any, ...]:
        payload = event.SerializeToString(deterministic=True)
        invariant(
            len(payload) <= PAYLOAD_BYTES_MAX, "an event fits a NATS message, or its contract says what it is cut by"
        )
        name, scope = event.DESCRIPTOR.full_name, scope_of(event)
        # In the order of SEALED_BESIDES.
        told = (name, meta.aggregate_id, meta.aggregate_version, scope, payload, self.traceparent, self.now)
        seal = self.seals.make(OUTBOX, self.org_id, meta.event_id, *told)
        return meta.event_id, *told, seal, self.seals.digest_proof(OUTBOX, self.org_id, meta.event_id)


async def _draw_versions(
    connection: asyncpg.Connection, org_id: str, counts: Mapping[str, int]
) -> tuple[dict[str, int], str]:
    """Takes the next numbers of each aggregate: the last one before them, by aggregate; and the incarnation."""
    drawn = await connection.fetch(_DRAW_VERSIONS, org_id, list(counts), list(counts.values()))
    invariant(len(drawn) == len(counts), "every aggregate has its numbers, and the database its incarnation")
    return {row["aggregate_id"]: row["version"] - counts[row["aggregate_id"]] for row in drawn}, drawn[0]["incarnation"]
