"""Webhooks come in: proved, stored once, answered; applied afterwards by a job."""

from __future__ import annotations

from datetime import datetime

from realco.transactions.v1 import webhooks_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.values.ids import new_id
from services.transactions import messages
from services.transactions.domain.errors import WebhookNotFound
from services.transactions.providers.base import ProviderEvent
from services.transactions.store import webhooks as store


async def receive(
    tx: AsyncConnection, provider: str, event: ProviderEvent, body: bytes, now: datetime
) -> pb.ReceiveWebhookResponse:
    """Stores a proved webhook. One that is about no payment of ours is kept as IGNORED, with the reason."""
    ignored = not event.payment_id
    webhook_id, is_new = await store.insert(
        tx,
        due_now=not ignored,
        webhook_id=new_id("whk"),
        provider=provider,
        provider_event_id=event.event_id,
        event_type=event.event_type,
        body=body,
        provider_reference=event.payment_id,
        status="IGNORED" if ignored else "RECEIVED",
        failure=f"{provider} events of this type are stored only" if ignored else "",
        created_at=now,
        applied_at=now if ignored else None,
    )
    return pb.ReceiveWebhookResponse(webhook_id=webhook_id, duplicate=not is_new)


async def replay(tx: AsyncConnection, request: pb.ReplayWebhookRequest) -> pb.Webhook:
    """Has it applied again. What it is about is looked up anew, so what was done is not repeated."""
    row = await store.lock(tx, current_principal().org_id, request.webhook_id)
    if row is None:
        raise WebhookNotFound("There is no such webhook.")
    if row.provider_reference:
        row = await store.receive_again(tx, row)
    return messages.to_webhook(row)
