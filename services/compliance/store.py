"""The write side's SQL: rows in, domain values out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.compliance.domain.clearance import REQUIRED_CHECKS, Check
from services.compliance.domain.limits import Limit, LimitType, window_start
from services.compliance.tables import (
    compliance_checks,
    limit_usage,
    parties,
    party_persons,
    seed_limits,
    transaction_limits,
)

# Who set the limits an organization starts with.
SEED = "seed"


async def lock_parties(tx: AsyncConnection, party_ids: Collection[str]) -> dict[str, sa.Row[Any]]:
    """The parties by id, locked in the order of their ids: two evaluations of one party never count at once."""
    statement = (
        sa.select(parties)
        .where(parties.c.party_id.in_(party_ids))
        .order_by(parties.c.org_id, parties.c.party_id)
        .with_for_update(key_share=True)
    )
    return {row.party_id: row for row in await tx.execute(statement)}


async def insert_party(tx: AsyncConnection, **values: Any) -> sa.Row[Any]:
    return (await tx.execute(sa.insert(parties).values(**values).returning(parties))).one()


async def update_party(tx: AsyncConnection, before: Any, **changes: Any) -> sa.Row[Any]:
    """The next version of a party whose row is locked."""
    c = parties.c
    statement = sa.update(parties).where(c.org_id == before.org_id, c.party_id == before.party_id)
    changes["version"] = before.version + 1
    return (await tx.execute(statement.values(**changes).returning(parties))).one()


async def list_persons(tx: AsyncConnection, party_id: str) -> list[sa.Row[Any]]:
    """Who acts for the party, in the order of their names."""
    c = party_persons.c
    return list(await tx.execute(sa.select(party_persons).where(c.party_id == party_id).order_by(c.person)))


async def list_parties_of(tx: AsyncConnection, org_id: str, person: str) -> list[str]:
    """The parties the person acts for, in the order of their ids."""
    c = party_persons.c
    mine = sa.select(c.party_id).where(c.org_id == org_id, c.person == person).order_by(c.party_id)
    return list(await tx.scalars(mine))


async def put_person(tx: AsyncConnection, **values: Any) -> None:
    """Adds the person, or gives one who is there already the new title."""
    row = pg.insert(party_persons).values(**values)
    await tx.execute(
        row.on_conflict_do_update(index_elements=["org_id", "party_id", "person"], set_={"title": row.excluded.title})
    )


async def delete_person(tx: AsyncConnection, org_id: str, party_id: str, person: str) -> bool:
    """False if the person did not act for the party."""
    c = party_persons.c
    gone = sa.delete(party_persons).where(c.org_id == org_id, c.party_id == party_id, c.person == person)
    return (await tx.execute(gone)).rowcount == 1


async def latest_checks(tx: AsyncConnection, party_ids: Collection[str]) -> dict[str, dict[str, Check]]:
    """For each party, the latest check of each required type."""
    statement = select_latest_checks().where(compliance_checks.c.party_id.in_(party_ids))
    found: dict[str, dict[str, Check]] = defaultdict(dict)
    for row in await tx.execute(statement):
        found[row.party_id][row.check_type] = Check(row.status, row.expires_at)
    return found


def select_latest_checks() -> sa.Select[Any]:
    """party_id, check_type, status and expires_at of each party's latest check of each required type."""
    c = compliance_checks.c
    return (
        sa.select(c.party_id, c.check_type, c.status, c.expires_at)
        .ext(pg.distinct_on(c.party_id, c.check_type))
        .where(c.entity_type == "USER", c.check_type.in_(REQUIRED_CHECKS))
        .order_by(c.party_id, c.check_type, c.created_at.desc(), c.compliance_check_id.desc())
    )


async def find_decisions(tx: AsyncConnection, transaction_ids: Collection[str]) -> dict[str, sa.Row[Any]]:
    """The decisions there are already, by transaction."""
    c = compliance_checks.c
    statement = sa.select(compliance_checks).where(c.entity_type == "TRANSACTION", c.entity_id.in_(transaction_ids))
    return {row.entity_id: row for row in await tx.execute(statement)}


async def insert_checks(tx: AsyncConnection, rows: Iterable[Mapping[str, Any]]) -> None:
    if values := list(rows):
        await tx.execute(sa.insert(compliance_checks), values)


async def insert_decisions(tx: AsyncConnection, rows: Collection[Mapping[str, Any]]) -> set[str]:
    """Stores each decision unless its transaction has got one meanwhile; the transactions whose decision it is.

    The lock of a party that does not exist is nobody's, so two may come to decide on its transaction at once.
    """
    if not rows:
        return set()
    new = pg.insert(compliance_checks).values(list(rows)).on_conflict_do_nothing()
    return set(await tx.scalars(new.returning(compliance_checks.c.entity_id)))


async def lock_check(tx: AsyncConnection, check_id: str) -> sa.Row[Any] | None:
    statement = sa.select(compliance_checks).where(compliance_checks.c.compliance_check_id == check_id)
    return (await tx.execute(statement.with_for_update())).one_or_none()


async def is_latest(tx: AsyncConnection, check: Any) -> bool:
    """True unless the party has a later check of the same type."""
    c = compliance_checks.c
    later = sa.select(c.compliance_check_id).where(
        c.org_id == check.org_id,
        c.party_id == check.party_id,
        c.entity_type == check.entity_type,
        c.check_type == check.check_type,
        sa.tuple_(c.created_at, c.compliance_check_id)
        > sa.tuple_(sa.literal(check.created_at, c.created_at.type), sa.literal(check.compliance_check_id)),
    )
    return not await tx.scalar(sa.select(later.exists()))


async def update_check(tx: AsyncConnection, check_id: str, **changes: Any) -> sa.Row[Any]:
    statement = sa.update(compliance_checks).where(compliance_checks.c.compliance_check_id == check_id)
    return (await tx.execute(statement.values(**changes).returning(compliance_checks))).one()


async def insert_usage(tx: AsyncConnection, rows: Iterable[Mapping[str, Any]]) -> None:
    if values := list(rows):
        await tx.execute(sa.insert(limit_usage), values)


async def set_counted(tx: AsyncConnection, transaction_id: str, counted: bool, version: int) -> None:
    """Counts a transaction or gives its usage back, unless a later event of it was heard already."""
    c = limit_usage.c
    await tx.execute(
        sa.update(limit_usage)
        .where(c.transaction_id == transaction_id, c.transaction_version < version)
        .values(counted=counted, transaction_version=version)
    )


async def used(
    tx: AsyncConnection, party_ids: Collection[str], currency: str, now: datetime
) -> dict[str, dict[LimitType, int]]:
    """For each party, what counts in the window of each limit that has one."""
    c = limit_usage.c
    starts = {limit_type: start for limit_type in LimitType if (start := window_start(limit_type, now)) is not None}
    # Sums of accredited parties have no limit, and so may be more than a bigint holds.
    sums = [sa.func.coalesce(sa.func.sum(c.amount_minor).filter(c.counted_at >= start), 0) for start in starts.values()]
    statement = (
        sa.select(c.party_id, *sums)
        .where(c.party_id.in_(party_ids), c.currency == currency, c.counted, c.counted_at >= min(starts.values()))
        .group_by(c.party_id)
    )
    return {row[0]: dict(zip(starts, map(int, row[1:]), strict=True)) for row in await tx.execute(statement)}


async def limits_in_force(tx: AsyncConnection) -> list[sa.Row[Any]]:
    """The organization's own limit of each type and currency, the one put last; else the seeded one."""
    own, seed = transaction_limits.c, seed_limits.c
    newest = (
        sa.select(own.limit_type, own.currency, own.amount_minor, own.effective_at, own.set_by)
        .ext(pg.distinct_on(own.limit_type, own.currency))
        .order_by(own.limit_type, own.currency, own.effective_at.desc())
        .cte("newest")
    )
    unset = sa.select(seed.limit_type, seed.currency, seed.amount_minor, seed.effective_at, sa.literal(SEED)).where(
        ~sa.exists().where(newest.c.limit_type == seed.limit_type, newest.c.currency == seed.currency)
    )
    return list(await tx.execute(sa.union_all(sa.select(newest), unset).order_by("limit_type", "currency")))


async def find_limit(tx: AsyncConnection, limit_type: str, currency: str) -> sa.Row[Any] | None:
    """The limit in force of one type and currency."""
    found = (row for row in await limits_in_force(tx) if (row.limit_type, row.currency) == (limit_type, currency))
    return next(found, None)


async def limits_of(tx: AsyncConnection, currency: str) -> list[Limit]:
    """One limit a type. Where nobody set one for this currency it is nothing: what has no limit is not allowed."""
    rows = {row.limit_type: row for row in await limits_in_force(tx) if row.currency == currency}
    return [
        Limit(limit_type, row.amount_minor if (row := rows.get(limit_type.value)) else 0, currency)
        for limit_type in LimitType
    ]


async def lock_limits(tx: AsyncConnection, org_id: str, limit_type: str) -> None:
    """Until the end of the transaction. There may be no row yet to lock."""
    name = f"realco.limit:{org_id}:{limit_type}"
    await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


async def insert_limit(tx: AsyncConnection, now: datetime, **values: Any) -> sa.Row[Any]:
    """Stores a limit in force from `now` on, but after the ones put before it, whatever clock they had."""
    c = transaction_limits.c
    last = await tx.scalar(
        sa.select(sa.func.max(c.effective_at)).where(
            c.limit_type == values["limit_type"], c.currency == values["currency"]
        )
    )
    effective_at = now if last is None else max(now, last + timedelta(microseconds=1))
    limit = sa.insert(transaction_limits).values(effective_at=effective_at, **values)
    return (await tx.execute(limit.returning(transaction_limits))).one()


async def take_expired(tx: AsyncConnection, now: datetime, count_max: int) -> list[sa.Row[Any]]:
    """Marks PASSED checks of parties that ran out as EXPIRED; returns them."""
    c = compliance_checks.c
    due = (
        sa.select(c.org_id, c.compliance_check_id)
        .where(c.status == "PASSED", c.expires_at <= now)
        .order_by(c.expires_at)
        .limit(count_max)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    statement = (
        sa.update(compliance_checks)
        .where(c.org_id == due.c.org_id, c.compliance_check_id == due.c.compliance_check_id)
        .values(status="EXPIRED", updated_at=now)
        .returning(compliance_checks)
    )
    return list(await tx.execute(statement))
