"""Reads of sweeps: an organization's parts, and its lines. SQL to proto.

Whoever compares the custodian's statement with them decides by what is listed, so what was written past the service is
left out of the lists.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

import sqlalchemy as sa
from realco.transactions.v1 import sweeps_pb2 as pb

from services.chassis.calls.wire import from_timestamp
from services.chassis.data.paging import one_of, read_list, within
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import keep_readable
from services.chassis.data.transaction import Tx
from services.transactions import messages
from services.transactions.domain.refusals import SweepNotFound
from services.transactions.store.sweeps import LINES, SWEEPS
from services.transactions.tables.sweeps import sweep_lines, sweeps

_s, _l = sweeps.c, sweep_lines.c


async def get_sweep(tx: Tx, request: pb.GetSweepRequest, now: datetime) -> pb.Sweep:
    """Raises: SweepNotFound, NotSealed."""
    found = await SWEEPS.find(tx, request.sweep_id)
    if found is None:
        raise SweepNotFound()
    return messages.to_sweep(found)


async def list_sweeps(tx: Tx, request: pb.ListSweepsRequest, now: datetime) -> pb.ListSweepsResponse:
    statement = SWEEPS.select().where(
        *one_of(_s.sweep_id, request.ids),
        *one_of(_s.status, [pb.Sweep.Status.Name(each) for each in request.status]),
        *one_of(_s.provider, request.provider),
        *within(_s.arrives_at, _list_arrivals(request)),
    )
    about_these = [
        *one_of(_l.transaction_id, request.transaction_id),
        *one_of(_l.escrow_account_id, request.escrow_account_id),
    ]
    if about_these:
        here = (_l.org_id == _s.org_id, _l.sweep_id == _s.sweep_id)
        statement = statement.where(sa.exists().where(*here, *about_these))
    page = await read_list(tx, request, statement, _s.created_at, _s.sweep_id)
    parts = keep_readable(page.rows, partial(SWEEPS.read_sealed, tx))
    if about_these:
        in_these = LINES.select().where(_l.sweep_id.in_([part.sweep_id for part in parts]), *about_these)
        having = {line.sweep_id for line in await LINES.list_sealed(tx, in_these)}
        parts = [part for part in parts if part.sweep_id in having]
    return pb.ListSweepsResponse(
        sweeps=map(messages.to_sweep, parts),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


async def list_sweep_lines(tx: Tx, request: pb.ListSweepLinesRequest, now: datetime) -> pb.ListSweepLinesResponse:
    statement = (
        sa.select(sweep_lines)
        .join(sweeps, sa.and_(_s.org_id == _l.org_id, _s.sweep_id == _l.sweep_id))
        .where(
            is_mine(sweep_lines),
            *one_of(_l.sweep_id, request.sweep_id),
            *one_of(_l.kind, [pb.SweepLine.Kind.Name(each) for each in request.kind]),
            *one_of(_l.provider, request.provider),
            *one_of(_l.transaction_id, request.transaction_id),
            *one_of(_l.escrow_account_id, request.escrow_account_id),
            *within(_s.arrives_at, _list_arrivals(request)),
        )
    )
    page = await read_list(tx, request, statement, _l.created_at, _l.sweep_line_id)
    lines = keep_readable(page.rows, partial(LINES.read_sealed, tx))
    of_these = SWEEPS.select().where(_s.sweep_id.in_({line.sweep_id for line in lines}))
    arrivals = {part.sweep_id: part.arrives_at for part in await SWEEPS.list_sealed(tx, of_these)}
    return pb.ListSweepLinesResponse(
        sweep_lines=[
            messages.to_sweep_line(line, arrivals[line.sweep_id]) for line in lines if line.sweep_id in arrivals
        ],
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )


def _list_arrivals(
    request: pb.ListSweepsRequest | pb.ListSweepLinesRequest,
) -> tuple[datetime | None, datetime | None]:
    first, last = request.HasField("arrival_from"), request.HasField("arrival_to")
    return (
        from_timestamp(request.arrival_from, "arrival_from") if first else None,
        from_timestamp(request.arrival_to, "arrival_to") if last else None,
    )
