"""The payouts that were ordered of transactions, as it asks about them."""

from __future__ import annotations

from datetime import datetime

from realco.distributions.v1 import payout_orders_pb2 as pb

from services.chassis.data.transaction import Tx
from services.distributions.messages import to_payout_order
from services.distributions.store.investments import list_given_back
from services.distributions.store.payouts import list_payouts
from services.distributions.store.sagas import list_mandates


async def batch_get_payout_orders(
    tx: Tx, request: pb.BatchGetPayoutOrdersRequest, _: datetime
) -> pb.BatchGetPayoutOrdersResponse:
    found = [each for each in await list_payouts(tx, request.idempotency_keys) if not each.is_refused]
    mandates = await list_mandates(tx, {each.saga_id for each in found})
    refunded = await list_given_back(tx, {each.investment_id for each in found if each.investment_id is not None})
    orders = [to_payout_order(each, mandates[each.saga_id], refunded.get(each.investment_id or "")) for each in found]
    return pb.BatchGetPayoutOrdersResponse(payout_orders=orders)
