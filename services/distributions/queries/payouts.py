"""The payouts that were ordered of transactions, as it asks about them."""

from __future__ import annotations

from datetime import datetime

from realco.distributions.v1 import payout_orders_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.distributions.messages import to_payout_order
from services.distributions.store.payouts import list_payouts


async def batch_get_payout_orders(
    tx: AsyncConnection, request: pb.BatchGetPayoutOrdersRequest, _: datetime
) -> pb.BatchGetPayoutOrdersResponse:
    found = await list_payouts(tx, request.idempotency_keys)
    return pb.BatchGetPayoutOrdersResponse(payout_orders=map(to_payout_order, found))
