"""Reads of webhooks: SQL to proto."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from realco.transactions.v1 import (
    webhooks_pb2,
)

from services.chassis.data.paging import one_of, read_list
from services.chassis.data.reach import is_mine
from services.chassis.data.transaction import Tx
from services.transactions import messages
from services.transactions.actions import (
    answer_webhook,
)
from services.transactions.domain.refusals import WebhookNotFound
from services.transactions.tables import webhooks

_w = webhooks.c


async def get_webhook(tx: Tx, request: webhooks_pb2.GetWebhookRequest, now: datetime) -> webhooks_pb2.Webhook:
    """Raises WebhookNotFound."""
    by_id = sa.select(webhooks).where(_w.webhook_id == request.webhook_id)
    row = (await tx.execute(by_id.where(is_mine(webhooks)))).one_or_none()
    if row is None:
        raise WebhookNotFound()
    return answer_webhook(row)


async def list_webhooks(
    tx: Tx, request: webhooks_pb2.ListWebhooksRequest, now: datetime
) -> webhooks_pb2.ListWebhooksResponse:
    statement = sa.select(webhooks).where(
        is_mine(webhooks),
        *one_of(_w.webhook_id, request.ids),
        *one_of(_w.status, [webhooks_pb2.Webhook.Status.Name(each) for each in request.status]),
        *one_of(_w.provider, request.provider),
        *one_of(_w.transaction_id, request.transaction_id),
    )
    page = await read_list(tx, request, statement, _w.created_at, _w.webhook_id)
    return webhooks_pb2.ListWebhooksResponse(
        webhooks=[messages.to_webhook(row) for row in page.rows],
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )
