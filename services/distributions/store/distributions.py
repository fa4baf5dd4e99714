"""Distributions with their tiers and allocations: each change is rows, lines of history and events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from realco.distributions.v1 import events_pb2 as events

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.outbox import enqueue_all
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.explanation import read_explanation, write_explanation
from services.chassis.values.failure import read_failure, write_failure
from services.distributions.domain.distribution import Allocation, Distribution, TierTotal
from services.distributions.domain.offering import Offering
from services.distributions.domain.refusals import DistributionNotFound
from services.distributions.domain.states import DISTRIBUTION_MOVES, DistributionStatus
from services.distributions.messages import to_distribution, to_told_allocation
from services.distributions.store.allocations import ALLOCATIONS, save_allocations
from services.distributions.store.offerings import OFFERINGS
from services.distributions.tables import distributions, moves


def _read_distribution(row: Row) -> Distribution:
    return read_fields(
        Distribution,
        row,
        status=DistributionStatus(row.status),
        tiers=tuple(map(_read_tier, row.tier_totals)),
        failure=read_failure(row.failure),
        makers=frozenset(row.makers),
    )


def _read_tier(kept: dict[str, Any]) -> TierTotal:
    explanation = read_explanation(kept["explanation"])
    return TierTotal(kept["kind"], kept["investors_minor"], kept["sponsor_minor"], explanation)


def _write_tier(tier: TierTotal) -> dict[str, Any]:
    return {
        "kind": tier.kind,
        "investors_minor": tier.investors_minor,
        "sponsor_minor": tier.sponsor_minor,
        "explanation": write_explanation(tier.explanation),
    }


def _list_columns(distribution: Distribution) -> dict[str, Any]:
    return list_columns(
        distributions,
        distribution,
        status=distribution.status.value,
        tier_totals=[_write_tier(tier) for tier in distribution.tiers],
        failure=write_failure(distribution.failure),
        metadata=dict(distribution.metadata),
        makers=sorted(distribution.makers),
    )


DISTRIBUTIONS = Aggregate(
    distributions,
    "distribution_id",
    _read_distribution,
    _list_columns,
    DISTRIBUTION_MOVES,
    moves,
)


async def require_distribution(tx: Tx, distribution_id: str) -> Distribution:
    """Raises: DistributionNotFound."""
    distribution = await DISTRIBUTIONS.find(tx, distribution_id)
    if distribution is None:
        raise DistributionNotFound
    return distribution


async def lock_distribution(tx: Tx, distribution_id: str) -> tuple[Offering, Distribution]:
    """The offering and the distribution, locked in that order. Raises: DistributionNotFound."""
    found = await require_distribution(tx, distribution_id)
    offering = await OFFERINGS.lock_known(tx, found.offering_id)
    return offering, await DISTRIBUTIONS.lock_known(tx, distribution_id)


async def insert_distribution(tx: Tx, distribution: Distribution) -> None:
    await DISTRIBUTIONS.insert(tx, distribution)
    event = events.DistributionCreated(distribution=to_distribution(distribution))
    await enqueue_all(tx, [event], now=distribution.created_at)


async def save_distribution(
    tx: Tx,
    before: Distribution,
    after: Distribution,
    event: Message,
    now: datetime,
    allocations: Sequence[tuple[Allocation, Allocation]] = (),
) -> tuple[Distribution, list[Allocation]]:
    """Writes the distribution, and those of its allocations that change with it, and publishes the event with them.

    The caller holds their locks.
    Raises: IllegalStatusChange.
    """
    distribution = await DISTRIBUTIONS.save(tx, before, after, now)
    saved = await ALLOCATIONS.save_all(tx, allocations, now)
    await _publish(tx, event, distribution, saved, now)
    return distribution, saved


async def save_calculation(
    tx: Tx,
    before: Distribution,
    after: Distribution,
    build_allocations: Callable[[Distribution], Sequence[Allocation]],
    now: datetime,
) -> Distribution:
    """Writes the distribution with its tiers and allocations, in place of those of an earlier calculation.

    Args:
        build_allocations: The allocations of the distribution as it was written: its version is theirs.
    """
    distribution = await DISTRIBUTIONS.save(tx, before, after, now)
    allocations = build_allocations(distribution)
    await save_allocations(tx, distribution.distribution_id, allocations)
    await _publish(tx, events.DistributionCalculated(), distribution, allocations, now)
    return distribution


async def _publish(
    tx: Tx,
    event: Message,
    distribution: Distribution,
    allocations: Sequence[Allocation],
    now: datetime,
) -> None:
    """Queues the event with the state after it."""
    filled: Any = event
    filled.distribution.CopyFrom(to_distribution(distribution))
    names = event.DESCRIPTOR.fields_by_name
    if "allocation" in names:
        filled.allocation.CopyFrom(to_told_allocation(allocations[0]))
    if "allocations" in names:
        filled.allocations.extend(to_told_allocation(each) for each in allocations)
    await enqueue_all(tx, [event], now=now)


async def find_being_declared(tx: Tx, offering_id: str) -> str | None:
    """The distribution of the offering that is queued, if one is. Raises: NotSealed."""
    found = await DISTRIBUTIONS.list_all(tx, distributions.c.offering_id == offering_id)
    return next((each.distribution_id for each in found if each.status is DistributionStatus.QUEUED), None)
