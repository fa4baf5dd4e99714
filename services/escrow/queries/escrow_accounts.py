"""Escrow accounts, read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.escrow.v1 import escrow_accounts_pb2 as pb

from services.chassis.data.incarnation import INCARNATION
from services.chassis.data.paging import one_of, read_list
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Reader, Source, fetch_row
from services.chassis.data.seals import check_row, keep_sealed
from services.chassis.data.transaction import Tx
from services.chassis.values.refusals import EscrowAccountNotFound
from services.escrow import actions, messages
from services.escrow.store.escrow_accounts import ESCROW_ACCOUNTS
from services.escrow.tables import escrow_accounts


async def get_escrow_account(reader: Reader, request: pb.GetEscrowAccountRequest, _: datetime) -> pb.EscrowAccount:
    """What may be done with it depends on its balances, as they were an instant later."""
    found = await ESCROW_ACCOUNTS.find_told(reader, request.escrow_account_id)
    if found is None:
        raise EscrowAccountNotFound()
    account, version = found
    answer = await actions.answer_escrow_account(reader, account)
    answer.aggregate_version = version
    return answer


async def list_escrow_accounts(
    tx: Tx, request: pb.ListEscrowAccountsRequest, _: datetime
) -> pb.ListEscrowAccountsResponse:
    table = escrow_accounts.c
    query = sa.select(escrow_accounts).where(
        is_mine(escrow_accounts),
        *one_of(table.status, [pb.EscrowAccount.Status.Name(status) for status in request.status]),
        *one_of(table.escrow_account_id, request.ids),
        *one_of(table.external_id, request.external_id),
        *one_of(table.sponsor_party_id, request.sponsor_party_id),
    )
    rows, token, previous = await read_list(tx, request, query, table.created_at, table.escrow_account_id)
    return pb.ListEscrowAccountsResponse(
        escrow_accounts=[
            messages.to_listed_escrow_account(ESCROW_ACCOUNTS.read(row))
            for row in keep_sealed(tx, escrow_accounts, rows)
        ],
        next_page_token=token,
        previous_page_token=previous,
    )


async def require_account_row(source: Source, escrow_account_id: str) -> Any:
    """The row of an escrow account of the caller's organization: what is booked in it stands there besides, and the
    incarnation of the database that it is read from.

    Raises:
        EscrowAccountNotFound: there is none.
        NotSealed
    """
    row = await fetch_row(source, _ACCOUNT, escrow_account_id=escrow_account_id)
    if row is None:
        raise EscrowAccountNotFound()
    return check_row(source, escrow_accounts, row)


_ACCOUNT = Read(
    sa.select(escrow_accounts, INCARNATION.label("incarnation")).where(
        is_mine(escrow_accounts), escrow_accounts.c.escrow_account_id == sa.bindparam("escrow_account_id")
    )
)
