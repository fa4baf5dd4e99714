"""Investments: each change is its row, its line of history and its event; and what is summed over many of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from realco.distributions.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.outbox import enqueue_all
from services.chassis.data.reach import is_mine
from services.chassis.values.failure import read_failure, write_failure
from services.distributions.domain.investment import Investment
from services.distributions.domain.states import INVESTMENT_MOVES, InvestmentStatus
from services.distributions.messages import to_investment
from services.distributions.store.aggregates import Aggregate
from services.distributions.store.rows import Row
from services.distributions.tables import investments


def read_investment(row: Row) -> Investment:
    return Investment(
        investment_id=row.investment_id,
        offering_id=row.offering_id,
        party_id=row.party_id,
        currency=row.currency,
        amount_minor=row.amount_minor,
        funded_minor=row.funded_minor,
        completed_minor=row.completed_minor,
        refunded_minor=row.refunded_minor,
        released_minor=row.released_minor,
        unreturned_minor=row.unreturned_minor,
        accrued_units=row.accrued_units,
        accrued_through=row.accrued_through,
        distributed_minor=row.distributed_minor,
        accrual_start_date=row.accrual_start_date,
        status=InvestmentStatus(row.status),
        refund_requested_by=row.refund_requested_by,
        refund_failure=read_failure(row.refund_failure),
        external_id=row.external_id,
        metadata=row.metadata,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
    )


def _columns(investment: Investment) -> dict[str, Any]:
    return {
        "investment_id": investment.investment_id,
        "offering_id": investment.offering_id,
        "party_id": investment.party_id,
        "currency": investment.currency,
        "amount_minor": investment.amount_minor,
        "funded_minor": investment.funded_minor,
        "completed_minor": investment.completed_minor,
        "refunded_minor": investment.refunded_minor,
        "released_minor": investment.released_minor,
        "unreturned_minor": investment.unreturned_minor,
        "accrued_units": investment.accrued_units,
        "accrued_through": investment.accrued_through,
        "distributed_minor": investment.distributed_minor,
        "accrual_start_date": investment.accrual_start_date,
        "status": investment.status.value,
        "refund_requested_by": investment.refund_requested_by,
        "refund_failure": write_failure(investment.refund_failure),
        "external_id": investment.external_id,
        "metadata": dict(investment.metadata),
        "created_by": investment.created_by,
        "created_at": investment.created_at,
        "updated_at": investment.updated_at,
    }


INVESTMENTS = Aggregate(investments, "investment_id", INVESTMENT_MOVES, read_investment, _columns)


async def insert_investment(tx: AsyncConnection, investment: Investment) -> None:
    await INVESTMENTS.insert(tx, investment)
    event = events.InvestmentCreated(investment=to_investment(investment))
    await enqueue_all(tx, [event], now=investment.created_at)


async def save_investments(
    tx: AsyncConnection,
    changes: Sequence[tuple[Investment, Investment]],
    event: Callable[..., Message],
    now: datetime,
) -> list[Investment]:
    """Writes each investment as it is after its change, and publishes an event for each. The caller has their locks.

    Those that do not change are left out. Raises: IllegalStatusChange.
    """
    changed = [(before, after) for before, after in changes if before != after]
    saved = await INVESTMENTS.save_all(tx, changed, now)
    await enqueue_all(tx, [event(investment=to_investment(each)) for each in saved], now=now)
    return saved


async def lock_investments(tx: AsyncConnection, investment_ids: Collection[str]) -> list[Investment]:
    """Those that are there, by id."""
    return await INVESTMENTS.lock_all(tx, investments.c.investment_id.in_(investment_ids))


async def lock_investments_of(tx: AsyncConnection, offering_id: str) -> list[Investment]:
    """All of the offering, by id."""
    return await INVESTMENTS.lock_all(tx, investments.c.offering_id == offering_id)


async def lock_investments_with_capital(tx: AsyncConnection, offering_id: str, party_id: str) -> list[Investment]:
    """Those of the party that a closing of the offering took money of, by id."""
    c = investments.c
    mine = (c.offering_id == offering_id, c.party_id == party_id, c.released_minor > 0)
    return await INVESTMENTS.lock_all(tx, *mine)


async def list_investments_of(tx: AsyncConnection, offering_id: str) -> list[Investment]:
    """All of the offering, by id."""
    return await INVESTMENTS.list_all(tx, investments.c.offering_id == offering_id)


async def has_investments(tx: AsyncConnection, offering_id: str) -> bool:
    found = sa.exists().where(is_mine(investments), investments.c.offering_id == offering_id)
    return bool(await tx.scalar(sa.select(found)))


async def has_uncancelled_investments(tx: AsyncConnection, offering_id: str) -> bool:
    """True while an investment of the offering is not CANCELLED."""
    uncancelled = sa.exists().where(
        is_mine(investments),
        investments.c.offering_id == offering_id,
        investments.c.status != InvestmentStatus.CANCELLED.value,
    )
    return bool(await tx.scalar(sa.select(uncancelled)))
