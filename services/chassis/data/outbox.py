"""Transactional outbox: an event is a row written in the transaction that caused it, so neither exists alone.

The envelope (`EventMeta`) is filled in here and nowhere else, and here each event loses what no event carries and is
cut into messages that NATS takes (event_messages.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import asyncpg
from google.protobuf.message import Message
from realco.type.v1 import event_pb2

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.event_messages import PAYLOAD_BYTES_MAX, aggregate_of, cut, leave_out, scope_of
from services.chassis.data.seals import Seals, seals_of
from services.chassis.data.transaction import Rest, Tx
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
    SELECT $1, aggregate_id, numbers_after + drawn
    FROM unnest($2::text[], $3::bigint[]) AS asked (aggregate_id, drawn), incarnation
    ORDER BY aggregate_id
    ON CONFLICT (org_id, aggregate_id)
    DO UPDATE SET version = known.version + excluded.version - (SELECT numbers_after FROM incarnation)
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
# database lives another life. After a restore the first number of one that is new is not known.
_OF_THIS_LIFE = "incarnation.incarnation = $14::text::uuid"
_INSERT_FIRST = f"""
WITH drawn AS (
    INSERT INTO aggregate_versions (org_id, aggregate_id, version)
    SELECT $1, $12, $13 FROM incarnation WHERE {_OF_THIS_LIFE} AND numbers_after = 0
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
_WAITING = "realco_events_waiting"


async def enqueue(tx: Tx, event: Message, *, now: datetime) -> None:
    """Queues `event` in the caller's name. It is published after the commit, or never.

    Args:
        now: Business time of the fact.
    """
    await enqueue_all(tx, [event], now=now)


async def enqueue_all(tx: Tx, events: Sequence[Message], *, now: datetime, actor: str = "") -> None:
    """Queues many events, in their order. They are written with all others of the transaction, at its end.

    Args:
        actor: Who caused them, if it is not the caller.
    """
    actor = actor or current_principal().person
    await enqueue_each(tx, [(event, actor) for event in events], now=now)


async def enqueue_each(
    tx: Tx, events: Sequence[tuple[Message, str]], *, now: datetime, comes_first: bool = False
) -> None:
    """As `enqueue_all`, each event with its actor.

    Args:
        comes_first: Before all that the organization has queued in the transaction.
    """
    if not events:
        return
    waiting = tx.info.setdefault(_WAITING, {}).setdefault(current_principal().org_id, [])
    place = 0 if comes_first else len(waiting)
    waiting[place:place] = _prepare(events, current_traceparent(), now)
    tx.leave(Rest.EVENTS, partial(_write_waiting, tx))


async def _write_waiting(tx: Tx) -> None:
    waiting: dict[str, list[_Unnumbered]] = tx.info.pop(_WAITING, {})
    for org_id, events in waiting.items():
        note_versions(tx, await _write(tx.driver, events, seals_of(tx), org_id))
        tx.has_events = True


async def write(
    connection: asyncpg.Connection,
    events: Sequence[tuple[Message, str]],
    *,
    seals: Seals,
    org_id: str,
    traceparent: str,
    now: datetime,
) -> None:
    """Queues events, each with its actor, in the connection's transaction, which is of organization `org_id`.

    Whoever commits it sets `Database.events_waiting` afterwards; `enqueue` does both.
    """
    await _write(connection, _prepare(events, traceparent, now), seals, org_id)


class _Unnumbered(NamedTuple):
    """An event, or a part of one, before it has its number."""

    aggregate_id: str
    event: Any
    actor: str
    traceparent: str
    now: datetime


def _prepare(events: Sequence[tuple[Message, str]], traceparent: str, now: datetime) -> list[_Unnumbered]:
    prepared = []
    for event, actor in events:
        leave_out(event)
        prepared += [_Unnumbered(aggregate_of(part), part, actor, traceparent, now) for part in cut(event)]
    return prepared


async def _write(
    connection: asyncpg.Connection, events: Sequence[_Unnumbered], seals: Seals, org_id: str
) -> Mapping[str, int]:
    """Writes events of one organization. Returns: The last number of each aggregate."""
    counts = Counter(each.aggregate_id for each in events)
    if len(counts) == 1 and (versions := await _write_known(connection, events, seals, org_id)):
        return versions
    if not counts:
        return {}
    before, incarnation = await _draw_versions(connection, org_id, counts)
    await connection.execute(_INSERT, org_id, *_build_columns(events, seals, org_id, before, incarnation))
    versions = {aggregate_id: before[aggregate_id] + count for aggregate_id, count in counts.items()}
    _last.note(org_id, versions, incarnation)
    return versions


async def _write_known(
    connection: asyncpg.Connection, events: Sequence[_Unnumbered], seals: Seals, org_id: str
) -> Mapping[str, int]:
    """Writes events of one aggregate under the numbers that follow the last one known. Returns: The last of them;
    nothing where these are not the next ones, and nothing was done.
    """
    aggregate_id, incarnation = events[0].aggregate_id, _last.incarnation
    before = _last.versions.get((org_id, aggregate_id), 0)
    columns = _build_columns(events, seals, org_id, {aggregate_id: before}, incarnation)
    drawn = aggregate_id, before + len(events), incarnation or None
    if before:
        done = await connection.execute(_INSERT_NEXT, org_id, *columns, *drawn, before)
    else:
        done = await connection.execute(_INSERT_FIRST, org_id, *columns, *drawn)
    if done != f"INSERT 0 {len(events)}":
        return {}
    versions = {aggregate_id: before + len(events)}
    _last.note(org_id, versions, incarnation)
    return versions


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


def _build_columns(
    events: Sequence[_Unnumbered], seals: Seals, org_id: str, before: Mapping[str, int], incarnation: str
) -> list[list[Any]]:
    """The columns of their rows.

    Args:
        before: The last number of each aggregate before them.
    """
    versions, rows = dict(before), []
    for each in events:
        versions[each.aggregate_id] += 1
        meta = event_pb2.EventMeta(
            event_id=str(uuid7()),
            org_id=org_id,
            aggregate_id=each.aggregate_id,
            aggregate_version=versions[each.aggregate_id],
            incarnation=incarnation,
            actor=each.actor,
            occur_time=to_timestamp(each.now),
        )
        each.event.meta.CopyFrom(meta)  # every event has one: a contract test holds it
        rows.append(_build_row(each, meta, seals))
    return [list(column) for column in zip(*rows, strict=True)]


def _build_row(each: _Unnumbered, meta: event_pb2.EventMeta, seals: Seals) -> tuple[Any, ...]:
    payload = each.event.SerializeToString(deterministic=True)
    invariant(len(payload) <= PAYLOAD_BYTES_MAX, "an event fits a NATS message, or its contract says what it is cut by")
    name, scope = each.event.DESCRIPTOR.full_name, scope_of(each.event)
    # In the order of SEALED_BESIDES.
    columns = (name, each.aggregate_id, meta.aggregate_version, scope, payload, each.traceparent, each.now)
    seal = seals.make(OUTBOX, meta.org_id, meta.event_id, *columns)
    return meta.event_id, *columns, seal, seals.digest_proof(OUTBOX, meta.org_id, meta.event_id)


async def _draw_versions(
    connection: asyncpg.Connection, org_id: str, counts: Mapping[str, int]
) -> tuple[dict[str, int], str]:
    """Takes the next numbers of each aggregate: the last one before them, by aggregate; and the incarnation."""
    drawn = await connection.fetch(_DRAW_VERSIONS, org_id, list(counts), list(counts.values()))
    invariant(len(drawn) == len(counts), "every aggregate has its numbers, and the database its incarnation")
    return {row["aggregate_id"]: row["version"] - counts[row["aggregate_id"]] for row in drawn}, drawn[0]["incarnation"]
