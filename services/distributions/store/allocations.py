"""Allocations with their lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_rows, seals_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import read_failure, write_failure
from services.distributions.domain.distribution import (
    UNDER_WAY,
    Allocation,
    AllocationLine,
    Distribution,
    PayeeType,
    sum_by_party,
)
from services.distributions.domain.states import ALLOCATION_MOVES, AllocationStatus
from services.distributions.tables import allocations, moves


def _read_allocation(row: Row) -> Allocation:
    return read_fields(
        Allocation,
        row,
        payee_type=PayeeType(row.payee_type),
        lines=tuple(map(_read_line, row.lines)),
        status=AllocationStatus(row.status),
        failure=read_failure(row.failure),
    )


def _read_line(kept: dict[str, Any]) -> AllocationLine:
    return AllocationLine(kept["tier"], kept["kind"], kept["amount_minor"], kept["claim_minor"], kept["claims_minor"])


def _write_line(line: AllocationLine) -> dict[str, Any]:
    return {
        "tier": line.tier,
        "kind": line.kind,
        "amount_minor": line.amount_minor,
        "claim_minor": line.claim_minor,
        "claims_minor": line.claims_minor,
    }


def _list_columns(allocation: Allocation) -> dict[str, Any]:
    return list_columns(
        allocations,
        allocation,
        payee_type=allocation.payee_type.value,
        lines=[_write_line(line) for line in allocation.lines],
        status=allocation.status.value,
        failure=write_failure(allocation.failure),
    )


ALLOCATIONS = Aggregate(allocations, "allocation_id", _read_allocation, _list_columns, ALLOCATION_MOVES, moves)


async def save_allocations(tx: Tx, distribution_id: str, calculated: Sequence[Allocation]) -> None:
    """In place of those of an earlier calculation."""
    mine = sa.and_(is_mine(allocations), allocations.c.distribution_id == distribution_id)
    await tx.execute(sa.delete(allocations).where(mine))
    await ALLOCATIONS.insert_all(tx, calculated)


async def lock_allocations(tx: Tx, allocation_ids: Collection[str]) -> list[Allocation]:
    """Those that are there, by id."""
    return await ALLOCATIONS.lock_these(tx, allocation_ids)


async def list_allocations_of(tx: Tx, distribution_id: str) -> list[Allocation]:
    """Raises: NotSealed."""
    return await ALLOCATIONS.list_all(tx, allocations.c.distribution_id == distribution_id)


async def lock_allocations_of(tx: Tx, distribution_id: str) -> list[Allocation]:
    return await ALLOCATIONS.lock_all(tx, allocations.c.distribution_id == distribution_id)


async def sum_by_payee(tx: Tx, distribution: Distribution) -> dict[str, int]:
    """Party -> what the distribution owes it. Raises: NotSealed."""
    rows = await _read_whole(tx, distribution)
    return sum_by_party((row.party_id, row.amount_minor) for row in rows)


async def _read_whole(tx: Tx, distribution: Distribution) -> list[Row]:
    """Raises: NotSealed: one is not ours, or one is missing."""
    distribution_id = distribution.distribution_id
    mine = sa.select(allocations).where(is_mine(allocations), allocations.c.distribution_id == distribution_id)
    rows = check_rows(tx, allocations, await tx.execute(mine))
    if len(rows) != distribution.allocation_count:
        seals_of(tx).refuse(allocations.name, f"of {distribution_id}")
    return rows


async def count_ended(tx: Tx, distribution: Distribution) -> Counter[AllocationStatus]:
    """How many allocations of the distribution have each status; nothing while one of them is under way.

    All are read at the end alone: while one is under way, another may say so without this service having written it.

    Raises: NotSealed: also where one only seems to be under way.
    """
    mine = is_mine(allocations), allocations.c.distribution_id == distribution.distribution_id
    under_way = allocations.c.status.in_([status.value for status in UNDER_WAY])
    if check_rows(tx, allocations, await tx.execute(sa.select(allocations).where(*mine, under_way).limit(1))):
        return Counter()
    rows = await _read_whole(tx, distribution)
    return Counter(AllocationStatus(row.status) for row in rows)
