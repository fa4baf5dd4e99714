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
from services.chassis.data.seals import check_rows
from services.chassis.values.invariant import invariant
from services.distributions.domain.capital_accounts import DAYS_IN_YEAR
from services.distributions.domain.investment import Investment
from services.distributions.domain.positions import Lot, State, Totals
from services.distributions.domain.states import InvestmentStatus
from services.distributions.domain.tiers import KINDS
from services.distributions.store.distributions import DISTRIBUTIONS
from services.distributions.store.investments import INVESTMENTS, lock_investments, save_investments
from services.distributions.tables import distribution_tiers, distributions, investments

# A rate has at most six decimals and a year 365 days, so an accrual is always a whole number of these.
UNITS_A_MINOR = 1_000_000 * DAYS_IN_YEAR
_IN_THE_WATERFALL = (InvestmentStatus.ACTIVE.value, InvestmentStatus.COMPLETED.value)


async def read_state(tx: AsyncConnection, offering_id: str) -> State:
    """Where the declared distributions have left the offering. The caller holds the offering's lock."""
    table = investments.c
    mine = (table.offering_id == offering_id, table.status.in_(_IN_THE_WATERFALL))
    # Locked, so that nobody changes between two looks what is calculated from.
    lots = tuple(map(_to_lot, await INVESTMENTS.lock_all(tx, *mine)))
    return State(lots, await _sum_declared(tx, offering_id))


def _to_lot(investment: Investment) -> Lot:
    start, through = investment.accrual_start_date, investment.accrued_through
    assert start is not None  # of all that a closing made active
    assert through is not None
    return Lot(
        investment.party_id,
        investment.investment_id,
        start,
        investment.released_minor,
        investment.unreturned_minor,
        Fraction(int(investment.accrued_units), UNITS_A_MINOR),
        through,
    )


async def _sum_declared(tx: AsyncConnection, offering_id: str) -> Totals:
    """Of what this service declared and calculated, each row of it."""
    of_offering = (distributions.c.offering_id == offering_id, distributions.c.declared_at.is_not(None))
    declared = await DISTRIBUTIONS.lock_all(tx, *of_offering)
    ids = [each.distribution_id for each in declared]
    query = sa.select(distribution_tiers).where(
        is_mine(distribution_tiers), distribution_tiers.c.distribution_id.in_(ids)
    )
    totals = Totals()
    for row in check_rows(tx, distribution_tiers, await tx.execute(query)):
        totals = totals.add(row.investors_minor, row.sponsor_minor, is_profit=KINDS[row.kind].pays_profit)
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
