"""Events out: each says who caused it and when, and is kept in the transaction that makes it true."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.outbox import enqueue


async def announce(
    tx: AsyncConnection, event: type[Message], aggregate_id: str, now: datetime, **facts: object
) -> None:
    actor = current_principal().person
    message = event(**facts, actor=actor, occur_time=to_timestamp(now))
    await enqueue(tx, message, aggregate_id=aggregate_id, now=now)
