"""Transactional outbox: an event is a row written in the transaction that caused it, so neither exists alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import tables
from services.chassis.data.database import mark_enqueued
from services.chassis.process.telemetry import current_traceparent
from services.chassis.values import ids
from services.chassis.values.invariant import invariant

# NATS takes 256 KiB a message, headers included. A larger event would stop the relay for ever, so it is refused
# here, where the transaction can still fail.
PAYLOAD_BYTES_MAX = 248 * 1024


async def enqueue(tx: AsyncConnection, event: Message, *, aggregate_id: str, now: datetime) -> None:
    """Queues `event`; its subject is its protobuf full name. It is published after the commit, or never.

    Args:
        aggregate_id: What the event is about (an escrow account, a transaction); events of one keep their order.
        now: Business time of the fact.
    """
    await enqueue_all(tx, [(aggregate_id, event)], now=now)


async def enqueue_all(tx: AsyncConnection, events: Sequence[tuple[str, Message]], *, now: datetime) -> None:
    """Queues many events, each with its aggregate_id, in their order: one statement for a batch."""
    if not events:
        return
    principal = current_principal()
    rows = []
    for aggregate_id, event in events:
        payload = event.SerializeToString(deterministic=True)
        invariant(len(payload) <= PAYLOAD_BYTES_MAX, "an event fits a NATS message; cut the batch it reports")
        rows.append(
            {
                "event_id": ids.uuid7(),
                "subject": event.DESCRIPTOR.full_name,
                "aggregate_id": aggregate_id,
                "payload": payload,
                "org_id": principal.org_id,
                "actor": principal.person,
                "traceparent": current_traceparent(),
                "occurred_at": now,
            }
        )
    await tx.execute(sa.insert(tables.outbox), rows)
    mark_enqueued(tx)
