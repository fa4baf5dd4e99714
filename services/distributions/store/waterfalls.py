"""The state of an offering's waterfall: its active investments as lots, and what was declared before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import sqlalchemy as sa
from realco.distributions.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.reach import is_mine
from services.chassis.values.invariant import invariant
from services.distributions.domain.books import DAYS_IN_YEAR
from services.distributions.domain.positions import Lot, State, Totals
from services.distributions.domain.states import InvestmentStatus
from services.distributions.domain.tiers import KINDS
from services.distributions.store.investments import lock_investments, save_investments
from services.distributions.tables import distribution_tiers, distributions, investments

# A rate has at most six decimals and a year 365 days, so an accrual is always a whole number of these.
UNITS_A_MINOR = 1_000_000 * DAYS_IN_YEAR
_IN_THE_WATERFALL = (InvestmentStatus.ACTIVE.value, InvestmentStatus.COMPLETED.value)


async def read_state(tx: AsyncConnection, offering_id: str) -> State:
    """Where the declared distributions have left the offering. The caller holds the offering's lock."""
    table = investments.c
    query = sa.select(
        table.party_id,
        table.investment_id,
        table.accrual_start_date,
        table.released_minor,
        table.unreturned_minor,
        table.accrued_units,
        table.accrued_through,
    ).where(is_mine(investments), table.offering_id == offering_id, table.status.in_(_IN_THE_WATERFALL))
    lots = tuple(
        Lot(row[0], row[1], row[2], row[3], row[4], Fraction(int(row[5]), UNITS_A_MINOR), row[6])
        for row in await tx.execute(query)
    )
    return State(lots, await _sum_declared(tx, offering_id))


async def _sum_declared(tx: AsyncConnection, offering_id: str) -> Totals:
    tiers = distribution_tiers.c
    query = (
        sa.select(
            tiers.kind,
            sa.cast(sa.func.sum(tiers.investors_minor), sa.BigInteger),
            sa.cast(sa.func.sum(tiers.sponsor_minor), sa.BigInteger),
        )
        .join(
            distributions,
            sa.and_(
                distributions.c.org_id == tiers.org_id,
                distributions.c.distribution_id == tiers.distribution_id,
            ),
        )
        .where(
            is_mine(distributions),
            distributions.c.offering_id == offering_id,
            distributions.c.declared_at.is_not(None),
        )
        .group_by(tiers.kind)
    )
    totals = Totals()
    for kind, investors, sponsor in await tx.execute(query):
        totals = totals.add(investors, sponsor, is_profit=KINDS[kind].pays_profit)
    return totals


async def save_lots(tx: AsyncConnection, lots: Iterable[Lot], now: datetime) -> None:
    """Keeps where a declaration leaves each lot."""
    by_id = {lot.lot_id: lot for lot in lots}
    changes = []
    for before in await lock_investments(tx, by_id.keys()):
        lot = by_id[before.investment_id]
        units = lot.accrued_preferred * UNITS_A_MINOR
        invariant(units.denominator == 1, "an accrual is a whole number of units")
        after = replace(
            before,
            unreturned_minor=lot.unreturned,
            accrued_units=Decimal(int(units)),
            accrued_through=lot.accrued_through,
        )
        changes.append((before, after))
    await save_investments(tx, changes, events.InvestmentUpdated, now)
