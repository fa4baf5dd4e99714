"""Reads of the limits in force."""

from __future__ import annotations

from datetime import datetime

from realco.compliance.v1 import compliance_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.compliance import messages
from services.compliance.domain.refusals import TransactionLimitNotFound
from services.compliance.store import limits as store


async def get_transaction_limit(
    tx: AsyncConnection, request: pb.GetTransactionLimitRequest, now: datetime
) -> pb.TransactionLimit:
    """Raises TransactionLimitNotFound."""
    row = await store.find_limit(tx, request.transaction_limit_id)
    if row is None:
        raise TransactionLimitNotFound()
    return messages.to_limit(row)


async def list_transaction_limits(
    tx: AsyncConnection, request: pb.ListTransactionLimitsRequest, now: datetime
) -> pb.ListTransactionLimitsResponse:
    rows = await store.list_limits_in_force(tx, request.currency_code)
    return pb.ListTransactionLimitsResponse(transaction_limits=map(messages.to_limit, rows))
