"""Reads of the limits in force."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from realco.compliance.v1 import compliance_pb2 as pb

from services.chassis.data.paging import one_of, read_list
from services.chassis.data.transaction import Tx
from services.compliance import actions, messages
from services.compliance.domain.refusals import TransactionLimitNotFound
from services.compliance.store import limits as store


async def get_transaction_limit(tx: Tx, request: pb.GetTransactionLimitRequest, now: datetime) -> pb.TransactionLimit:
    """Raises TransactionLimitNotFound."""
    row = await store.find_limit(tx, request.transaction_limit_id)
    if row is None:
        raise TransactionLimitNotFound()
    return actions.answer_limit(row)


async def list_transaction_limits(
    tx: Tx, request: pb.ListTransactionLimitsRequest, now: datetime
) -> pb.ListTransactionLimitsResponse:
    found = store.select_limits_in_force()
    c = found.selected_columns
    found = found.where(
        *one_of(c.currency, request.currency_code),
        *one_of(c.limit_type, [pb.TransactionLimit.Type.Name(each) for each in request.type]),
    )
    if request.ids:
        named = await store.list_keys_by_id(tx, request.ids)
        found = found.where(sa.tuple_(c.limit_type, c.currency).in_(named))
    rows, token, previous = await read_list(tx, request, found, c.set_at, c.limit_type, c.currency)
    return pb.ListTransactionLimitsResponse(
        transaction_limits=map(messages.to_limit, await store.keep_ours(tx, rows)),
        next_page_token=token,
        previous_page_token=previous,
    )
