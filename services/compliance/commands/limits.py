"""What changes an organization's limits. Each runs inside the caller's transaction."""

from __future__ import annotations

from datetime import datetime

from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.values.etags import EtagRequired, check_etag
from services.compliance import messages, store


async def put_limit(tx: AsyncConnection, request: pb.PutTransactionLimitRequest, now: datetime) -> pb.TransactionLimit:
    """Puts a limit in force from now on. One after another: the last one put is the one that holds.

    Raises:
        EtagRequired: the organization set this limit before, and the request does not say which one it replaces.
        EtagMismatch: it replaces another than the one in force, or one that is not there.
    """
    principal = current_principal()
    limit_type, currency = pb.TransactionLimit.LimitType.Name(request.limit_type), request.amount.currency_code
    await store.lock_limits(tx, principal.org_id, limit_type)
    former = await store.find_limit(tx, limit_type, currency)
    if former is not None and former.set_by != store.SEED and not request.etag:
        raise EtagRequired("The limit was set before.", fields={"etag": "must be the etag of the limit in force"})
    check_etag(request.etag, "" if former is None else messages.limit_etag(former, principal.org_id))
    row = await store.insert_limit(
        tx,
        now,
        org_id=principal.org_id,
        limit_type=limit_type,
        currency=currency,
        amount_minor=request.amount.amount_minor,
        set_by=principal.person,
    )
    limit = messages.to_limit(row, principal.org_id)
    await outbox.enqueue(tx, events.TransactionLimitPut(transaction_limit=limit), now=now)
    return limit
