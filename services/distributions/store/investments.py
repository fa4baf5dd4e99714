"""Investments in sets: as lots of the waterfall, as what the book says, as what a closing takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.values.invariant import invariant
from services.distributions.domain.terms import BPS, Tier
from services.distributions.domain.waterfall import DAYS_IN_YEAR, Lot, State, Totals
from services.distributions.store.rows import Row, values_table
from services.distributions.tables import distribution_tiers, distributions, investments

# A preferred return is whole basis points a year over 365 days, so an accrual is always a whole number of these.
UNITS_A_MINOR = BPS * DAYS_IN_YEAR


@dataclass(slots=True)
class Booked:
    """What journal entries add to an investment, in minor units."""

    funded: int = 0
    refunded: int = 0
    completed: int = 0  # past its return risk from the start: booked by hand, without a transaction


async def of_offering(tx: AsyncConnection, offering_id: str, *, lock: bool = False) -> Sequence[Row]:
    """All of them, by id."""
    query = sa.select(investments).where(investments.c.offering_id == offering_id).order_by(investments.c.investment_id)
    return (await tx.execute(query.with_for_update(key_share=True) if lock else query)).all()


async def any_in(tx: AsyncConnection, offering_id: str) -> bool:
    found = sa.select(sa.exists().where(investments.c.offering_id == offering_id))
    return bool(await tx.scalar(found))


async def waterfall_state(tx: AsyncConnection, offering_id: str) -> State:
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
    ).where(table.offering_id == offering_id, table.status.in_(("ACTIVE", "COMPLETED")))
    lots = tuple(
        Lot(row[0], row[1], row[2], row[3], row[4], Fraction(int(row[5]), UNITS_A_MINOR), row[6])
        for row in await tx.execute(query)
    )
    return State(lots, await _totals(tx, offering_id))


async def _totals(tx: AsyncConnection, offering_id: str) -> Totals:
    tiers = distribution_tiers.c
    query = (
        sa.select(
            tiers.tier,
            sa.cast(sa.func.sum(tiers.investors_minor), sa.BigInteger),
            sa.cast(sa.func.sum(tiers.sponsor_minor), sa.BigInteger),
        )
        .join(distributions, distributions.c.distribution_id == tiers.distribution_id)
        .where(distributions.c.offering_id == offering_id, distributions.c.declared_at.is_not(None))
        .group_by(tiers.tier)
    )
    paid = {Tier(tier): (investors, sponsor) for tier, investors, sponsor in await tx.execute(query)}
    nothing = (0, 0)
    return Totals(
        return_of_capital=paid.get(Tier.RETURN_OF_CAPITAL, nothing)[0],
        preferred_return=paid.get(Tier.PREFERRED_RETURN, nothing)[0],
        catch_up_investors=paid.get(Tier.CATCH_UP, nothing)[0],
        catch_up_sponsor=paid.get(Tier.CATCH_UP, nothing)[1],
        split_investors=paid.get(Tier.SPLIT, nothing)[0],
        split_sponsor=paid.get(Tier.SPLIT, nothing)[1],
    )


async def save_lots(tx: AsyncConnection, lots: Iterable[Lot], now: datetime) -> None:
    """Keeps where a declaration leaves each lot."""
    rows = sorted(lots, key=lambda lot: lot.lot_id)
    units = [lot.accrued_preferred * UNITS_A_MINOR for lot in rows]
    ids = [lot.lot_id for lot in rows]
    await tx.execute(_locked(investments.c.investment_id.in_(ids)))  # in order, as payments that arrive lock them
    invariant(all(unit.denominator == 1 for unit in units), "an accrual is a whole number of units")
    after = values_table(
        ("lot_id", sa.Text(), ids),
        ("unreturned", sa.BigInteger(), [lot.unreturned for lot in rows]),
        ("units", sa.Numeric(), [Decimal(int(unit)) for unit in units]),
        ("through", sa.Date(), [lot.accrued_through for lot in rows]),
    )
    await tx.execute(
        sa.update(investments)
        .where(investments.c.investment_id == after.c.lot_id)
        .values(
            unreturned_minor=after.c.unreturned,
            accrued_units=after.c.units,
            accrued_through=after.c.through,
            updated_at=now,
        )
    )


async def investors_of(tx: AsyncConnection, offering_id: str, investment_ids: Iterable[str]) -> dict[str, str]:
    """Investment -> its investor, of those that are in the offering."""
    query = sa.select(investments.c.investment_id, investments.c.party_id).where(
        investments.c.offering_id == offering_id, investments.c.investment_id.in_(investment_ids)
    )
    return dict((await tx.execute(query)).all())


async def add_booked(
    tx: AsyncConnection, offering_id: str, booked: Mapping[str, Booked], now: datetime
) -> Sequence[Row]:
    """Adds what the book says to each investment of the offering; the rows after it, by id."""
    mine = sa.and_(investments.c.investment_id.in_(booked), investments.c.offering_id == offering_id)
    known = list((await tx.execute(_locked(mine))).scalars())
    added = values_table(
        ("investment_id", sa.Text(), known),
        ("funded", sa.BigInteger(), [booked[investment_id].funded for investment_id in known]),
        ("refunded", sa.BigInteger(), [booked[investment_id].refunded for investment_id in known]),
        ("completed", sa.BigInteger(), [booked[investment_id].completed for investment_id in known]),
    )
    update = (
        sa.update(investments)
        .where(investments.c.investment_id == added.c.investment_id)
        .values(
            funded_minor=investments.c.funded_minor + added.c.funded,
            refunded_minor=investments.c.refunded_minor + added.c.refunded,
            completed_minor=investments.c.completed_minor + added.c.completed,
            updated_at=now,
        )
        .returning(*investments.c)
    )
    rows = (await tx.execute(update)).all()
    return sorted(rows, key=lambda row: str(row.investment_id))


def _locked(which: sa.ColumnElement[bool]) -> sa.Select[str]:
    found = sa.select(investments.c.investment_id).where(which).order_by(investments.c.investment_id)
    return found.with_for_update(key_share=True)


async def add_distributed(tx: AsyncConnection, parts: Mapping[str, int], now: datetime) -> None:
    """Adds what was paid (or came back, negative) to each investment."""
    for investment_id in sorted(parts):
        await tx.execute(
            sa.update(investments)
            .where(investments.c.investment_id == investment_id)
            .values(distributed_minor=investments.c.distributed_minor + parts[investment_id], updated_at=now)
        )


async def capital_of(tx: AsyncConnection, offering_id: str, party_id: str) -> dict[str, int]:
    """Investment -> capital contributed, of one investor in one offering."""
    table = investments.c
    query = sa.select(table.investment_id, table.released_minor).where(
        table.offering_id == offering_id, table.party_id == party_id, table.released_minor > 0
    )
    return dict((await tx.execute(query)).all())


async def take_for_release(tx: AsyncConnection, offering_id: str, now: datetime) -> None:
    """Fixes what the closing releases of each investment: all that is funded, unless it is on its way back."""
    table = investments.c
    await tx.execute(
        sa.update(investments)
        .where(table.offering_id == offering_id, table.status == "PENDING")
        .where(table.refund_requested_by.is_(None), table.funded_minor > 0)
        .values(released_minor=table.funded_minor, unreturned_minor=table.funded_minor, updated_at=now)
    )


async def undo_release(tx: AsyncConnection, offering_id: str, now: datetime) -> None:
    """Escrow refused the release: nothing was taken."""
    await tx.execute(
        sa.update(investments)
        .where(investments.c.offering_id == offering_id)
        .values(released_minor=0, unreturned_minor=0, updated_at=now)
    )


async def released_by_investor(tx: AsyncConnection, offering_id: str) -> dict[str, int]:
    """Investor -> what the closing takes of its subscription, by investor id."""
    table = investments.c
    query = (
        sa.select(table.party_id, sa.cast(sa.func.sum(table.released_minor), sa.BigInteger))
        .where(table.offering_id == offering_id, table.released_minor > 0)
        .group_by(table.party_id)
        .order_by(table.party_id)
    )
    return dict((await tx.execute(query)).all())


async def activate(tx: AsyncConnection, offering_id: str, closing_date: date, now: datetime) -> Sequence[Row]:
    """Makes the released investments active lots from the closing date on; the rows after it, by id."""
    table = investments.c
    update = (
        sa.update(investments)
        .where(table.offering_id == offering_id, table.status == "PENDING", table.released_minor > 0)
        .values(status="ACTIVE", accrual_start_date=closing_date, accrued_through=closing_date, updated_at=now)
        .returning(*table)
    )
    rows = (await tx.execute(update)).all()
    return sorted(rows, key=lambda row: str(row.investment_id))


async def ask_refunds(tx: AsyncConnection, offering_id: str, person: str, now: datetime) -> None:
    """Notes that `person` wants every investment of the offering given back that is neither active nor cancelled."""
    table = investments.c
    await tx.execute(
        sa.update(investments)
        .where(table.offering_id == offering_id, table.status.in_(("PENDING", "RECONFIRM_REQUIRED")))
        .where(table.refund_requested_by.is_(None), table.released_minor == 0)
        .values(refund_requested_by=person, updated_at=now)
    )


async def forget_failures(tx: AsyncConnection, investment_ids: Sequence[str]) -> None:
    """A new refund is under way: why the last one failed says nothing any more."""
    mine = sa.and_(investments.c.investment_id.in_(investment_ids), investments.c.refund_failure != "")
    await tx.execute(sa.update(investments).where(mine).values(refund_failure=""))


async def cancel(tx: AsyncConnection, investment_ids: Sequence[str], now: datetime) -> Sequence[Row]:
    """The rows after it, by id."""
    update = (
        sa.update(investments)
        .where(investments.c.investment_id.in_(investment_ids))
        .values(status="CANCELLED", updated_at=now)
        .returning(*investments.c)
    )
    rows = (await tx.execute(update)).all()
    return sorted(rows, key=lambda row: str(row.investment_id))


async def any_left(tx: AsyncConnection, offering_id: str) -> bool:
    """True while an investment of the offering is not cancelled."""
    left = sa.exists().where(investments.c.offering_id == offering_id, investments.c.status != "CANCELLED")
    return bool(await tx.scalar(sa.select(left)))
