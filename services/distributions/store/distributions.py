"""Distributions with their tiers and allocations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from realco.distributions.v1 import distributions_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.values.ids import derived_id
from services.distributions import messages
from services.distributions.domain.waterfall import SPONSOR, Line, Step
from services.distributions.store.rows import Row, insert_many
from services.distributions.tables import allocations, distribution_tiers, distributions


async def keep_calculation(
    tx: AsyncConnection,
    distribution: Row,
    sponsor_party_id: str,
    steps: Sequence[Step],
    lines: Sequence[Line],
    now: datetime,
) -> Sequence[Any]:
    """Replaces the distribution's tiers and allocations; the allocations, by payee.

    An allocation's id follows from the distribution and its payee, so a repeated calculation keeps it.
    """
    distribution_id = distribution.distribution_id
    await tx.execute(sa.delete(distribution_tiers).where(distribution_tiers.c.distribution_id == distribution_id))
    await tx.execute(sa.delete(allocations).where(allocations.c.distribution_id == distribution_id))
    await insert_many(
        tx,
        distribution_tiers,
        [
            {
                "distribution_id": distribution_id,
                "position": position,
                "tier": step.tier.value,
                "investors_minor": step.investors,
                "sponsor_minor": step.sponsor,
                "working": step.working,
            }
            for position, step in enumerate(steps)
        ],
    )
    found = sorted(
        (_allocation(distribution, sponsor_party_id, line, now) for line in lines),
        key=lambda allocation: (allocation["party_id"], allocation["payee_type"]),
    )
    await insert_many(tx, allocations, found)
    # What was just written need not be read back: a thousand rows take longer to fetch than to calculate.
    return [SimpleNamespace(**allocation, transaction_id="", attempts=0, failure="") for allocation in found]


def _allocation(distribution: Row, sponsor_party_id: str, line: Line, now: datetime) -> dict[str, Any]:
    payee_type = "SPONSOR" if line.party_id == SPONSOR else "INVESTOR"
    return {
        "allocation_id": derived_id("alloc", distribution.distribution_id, payee_type, line.party_id),
        "distribution_id": distribution.distribution_id,
        "payee_type": payee_type,
        "party_id": sponsor_party_id if line.party_id == SPONSOR else line.party_id,
        "currency": distribution.currency,
        "return_of_capital_minor": line.return_of_capital,
        "preferred_return_minor": line.preferred_return,
        "catch_up_minor": line.catch_up,
        "split_minor": line.split,
        "total_minor": line.total,
        "status": "PENDING",
        "updated_at": now,
    }


async def allocations_of(tx: AsyncConnection, distribution_id: str) -> Sequence[Row]:
    """By payee."""
    query = (
        sa.select(allocations)
        .where(allocations.c.distribution_id == distribution_id)
        .order_by(allocations.c.party_id, allocations.c.payee_type)
    )
    return (await tx.execute(query)).all()


async def move_allocations(tx: AsyncConnection, distribution_id: str, status: str, now: datetime) -> None:
    """Moves every pending allocation of the distribution; its first payout is under way when it is processing."""
    await tx.execute(
        sa.update(allocations)
        .where(allocations.c.distribution_id == distribution_id, allocations.c.status == "PENDING")
        .values(status=status, attempts=1 if status == "PROCESSING" else 0, updated_at=now)
    )


async def statuses(tx: AsyncConnection, distribution_id: str) -> dict[str, int]:
    """Status -> how many allocations of the distribution are in it."""
    query = (
        sa.select(allocations.c.status, sa.func.count())
        .where(allocations.c.distribution_id == distribution_id)
        .group_by(allocations.c.status)
    )
    return dict((await tx.execute(query)).all())


async def describe(tx: AsyncConnection, rows: Sequence[Row]) -> list[pb.Distribution]:
    """The distributions as the contract shows them, in the order given."""
    ids = [row.distribution_id for row in rows]
    tiers: dict[str, list[Row]] = {distribution_id: [] for distribution_id in ids}
    query = sa.select(distribution_tiers).where(distribution_tiers.c.distribution_id.in_(ids))
    for tier in await tx.execute(query.order_by(distribution_tiers.c.position)):
        tiers[tier.distribution_id].append(tier)
    paid_query = (
        sa.select(allocations.c.distribution_id, sa.cast(sa.func.sum(allocations.c.total_minor), sa.BigInteger))
        .where(allocations.c.distribution_id.in_(ids), allocations.c.status == "COMPLETED")
        .group_by(allocations.c.distribution_id)
    )
    paid: dict[str, int] = dict((await tx.execute(paid_query)).all())
    return [messages.distribution(row, tiers[row.distribution_id], paid.get(row.distribution_id, 0)) for row in rows]


async def describe_one(tx: AsyncConnection, row: Row) -> pb.Distribution:
    return (await describe(tx, [row]))[0]


async def being_declared(tx: AsyncConnection, offering_id: str) -> str | None:
    """The distribution of the offering that is queued, if one is."""
    query = sa.select(distributions.c.distribution_id).where(
        distributions.c.offering_id == offering_id, distributions.c.status == "QUEUED"
    )
    return (await tx.execute(query)).scalar_one_or_none()
