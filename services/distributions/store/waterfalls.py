"""The state of an offering's waterfall: its active investments as lots, and what was declared before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from realco.distributions.v1 import events_pb2 as events

from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.invariant import invariant
from services.distributions.domain.capital_accounts import DAYS_IN_YEAR
from services.distributions.domain.lots import Lot, State, Totals
from services.distributions.domain.states import InvestmentStatus
from services.distributions.domain.tiers import KINDS
from services.distributions.store.distributions import DISTRIBUTIONS
from services.distributions.store.investments import list_investment_rows, lock_investments, save_investments
from services.distributions.tables import distributions

# A rate has at most six decimals and a year 365 days, so an accrual is always a whole number of these.
UNITS_A_MINOR = 1_000_000 * DAYS_IN_YEAR
_IN_THE_WATERFALL = (InvestmentStatus.ACTIVE.value, InvestmentStatus.COMPLETED.value)


async def read_state(tx: Tx, offering_id: str) -> State:
    """Where the declared distributions have left the offering. The caller holds the offering's lock."""
    lots = [_to_lot(row) for row in await list_investment_rows(tx, offering_id) if row.status in _IN_THE_WATERFALL]
    return State(tuple(lots), await _sum_declared(tx, offering_id))


def _to_lot(row: Row) -> Lot:
    """Of an investment that a closing made active."""
    accrued = Fraction(int(row.accrued_units), UNITS_A_MINOR)
    start, through = row.accrual_start_date, row.accrued_through
    return Lot(row.party_id, row.investment_id, start, row.released_minor, row.unreturned_minor, accrued, through)


async def _sum_declared(tx: Tx, offering_id: str) -> Totals:
    """Of what this service declared and calculated, each row of it."""
    totals = Totals()
    for each in await DISTRIBUTIONS.lock_all(tx, distributions.c.offering_id == offering_id):
        if each.declared_at is not None:
            for tier in each.tiers:
                totals = totals.add(tier.investors_minor, tier.sponsor_minor, is_profit=KINDS[tier.kind].pays_profit)
    return totals


async def save_lots(tx: Tx, lots: Iterable[Lot], now: datetime) -> None:
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
