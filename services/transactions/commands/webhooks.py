"""Webhooks: proved and stored once when they come; applied afterwards, by what the provider answers then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from realco.transactions.v1 import webhooks_pb2 as pb

from services.chassis.data.database import Database
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import InvalidField
from services.chassis.values.invariant import require_present
from services.transactions.actions import answer_webhook
from services.transactions.commands.settlement import describe_payment, try_to_follow
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import Payment
from services.transactions.domain.refusals import WebhookNotFound
from services.transactions.domain.states import Status
from services.transactions.domain.webhooks import ProviderEvent, WebhookStatus
from services.transactions.store import transactions
from services.transactions.store import webhooks as store
from services.transactions.store.exception_reports import report

BODY_BYTES_MAX = 256 * 1024


def check_body(data: bytes) -> bytes:
    if len(data) > BODY_BYTES_MAX:
        raise InvalidField("The body is too long.", fields={"body": f"must have at most {BODY_BYTES_MAX} bytes"})
    return data


async def receive_webhook(
    database: Database, provider: str, event: ProviderEvent, body: bytes, now: datetime
) -> pb.ReceiveWebhookResponse:
    """Stores a proved webhook, once."""
    received = store.build_received(provider, event, body, now)
    webhook_id, is_new = await store.insert_received(database, received)
    return pb.ReceiveWebhookResponse(webhook_id=webhook_id, replayed=not is_new)


async def apply_webhooks(tx: Tx, taken: Sequence[Row], payment: Payment, transaction_id: str, now: datetime) -> bool:
    """Brings the transaction to where the provider has the payment that they are all about.

    Returns:
        False where it is too early: they were faster than the answer to the order, which will name the payment.
    """
    row = await transactions.lock_transaction(tx, transaction_id)
    if row is None:
        return False
    is_early = row.status is Status.PROCESSING
    status, failure = WebhookStatus.RECEIVED, None
    if not is_early:
        failure = await try_to_follow(tx, row, payment, now)
        status = WebhookStatus.FAILED if failure else WebhookStatus.APPLIED
    if failure:
        about = describe_payment(row.provider, payment, row)
        report(tx, ExceptionKind.WEBHOOK_FAILED, about, failure.message, now)
    applied_at = None if is_early else now
    told = await store.save_webhooks(tx, taken, row, status=status, failure=failure, applied_at=applied_at)
    await store.publish_webhooks(tx, told, row.escrow_account_id, now)
    return not is_early


async def replay_webhook(tx: Tx, request: pb.ReplayWebhookRequest, now: datetime) -> pb.Webhook:
    """Has it applied again; one that waits to be applied stays as it is. The provider is asked anew how the payment
    stands, so nothing is done twice."""
    row = await store.lock_webhook(tx, request.webhook_id)
    if row is None:
        raise WebhookNotFound()
    transaction = await transactions.lock_transaction(tx, row.transaction_id)
    transaction = require_present(transaction, "a webhook of an organization is about one of its transactions")
    if row.status != WebhookStatus.RECEIVED:
        row = await store.change_webhook(tx, row, status=WebhookStatus.RECEIVED, failure=None, applied_at=None)
        await store.publish_webhooks(tx, [row], transaction.escrow_account_id, now)
    await store.save_due(tx, row.webhook_id)
    return answer_webhook(row)
