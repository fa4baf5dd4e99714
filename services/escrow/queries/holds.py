"""Holds, read."""

from __future__ import annotations

from datetime import datetime

from realco.escrow.v1 import holds_pb2 as pb

from services.chassis.data.paging import one_of, read_list
from services.chassis.data.seals import keep_sealed
from services.chassis.data.transaction import Tx
from services.escrow import actions, messages
from services.escrow.domain.refusals import HoldNotFound
from services.escrow.queries.escrow_accounts import require_account_row
from services.escrow.queries.filters import match_account
from services.escrow.store import holds as store
from services.escrow.tables import holds


async def get_hold(tx: Tx, request: pb.GetHoldRequest, _: datetime) -> pb.Hold:
    account = await require_account_row(tx, request.escrow_account_id)
    hold = await store.find_hold(tx, account.escrow_account_id, request.hold_id)
    if hold is None:
        raise HoldNotFound()
    return actions.answer_hold(hold)


async def list_holds(tx: Tx, request: pb.ListHoldsRequest, _: datetime) -> pb.ListHoldsResponse:
    account = await require_account_row(tx, request.escrow_account_id)
    table = holds.c
    query = store.select_holds_with_account().where(
        table.org_id == account.org_id,
        table.escrow_account_id == account.escrow_account_id,
        *match_account(request, table.kind, table.party_id),
        *one_of(table.status, [pb.Hold.Status.Name(status) for status in request.status]),
        *one_of(table.transaction_id, request.transaction_id),
        *one_of(table.hold_id, request.ids),
        *one_of(table.external_id, request.external_id),
    )
    rows, token, previous = await read_list(tx, request, query, table.created_at, table.hold_id)
    return pb.ListHoldsResponse(
        holds=[messages.to_hold(hold) for hold in map(store.read_hold, keep_sealed(tx, holds, rows))],
        next_page_token=token,
        previous_page_token=previous,
    )
