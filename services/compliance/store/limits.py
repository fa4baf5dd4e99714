"""The limits of an organization, and what each transaction uses of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from realco.compliance.v1 import events_pb2 as events
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_rows, keep_sealed, seal_of
from services.compliance import messages
from services.compliance.domain.limits import Limit, LimitType, window_start
from services.compliance.tables import default_limits, limit_usage, transaction_limits

_own, _default, _usage = transaction_limits.c, default_limits.c, limit_usage.c


def _select_last() -> sa.Select[Any]:
    """What the organization set last of each type and currency: the rows before it count no more."""
    newest = sa.select(transaction_limits).ext(pg.distinct_on(_own.limit_type, _own.currency))
    return newest.where(is_mine(transaction_limits)).order_by(_own.limit_type, _own.currency, _own.set_at.desc())


def select_limits_in_force() -> sa.Select[Any]:
    """One a type and currency: the organization's own, the one set last; else the default."""
    last = _select_last().subquery("last")
    same = sa.and_(last.c.limit_type == _default.limit_type, last.c.currency == _default.currency)
    is_own = last.c.amount_minor.is_not(None)
    in_force = (
        sa.select(
            sa.literal(current_principal().org_id).label("org_id"),
            sa.func.coalesce(last.c.limit_type, _default.limit_type).label("limit_type"),
            sa.func.coalesce(last.c.currency, _default.currency).label("currency"),
            sa.func.coalesce(last.c.amount_minor, _default.amount_minor).label("amount_minor"),
            # The default holds again since the organization removed its own.
            sa.func.coalesce(last.c.set_at, _default.set_at).label("set_at"),
            sa.case((is_own, last.c.set_by)).label("set_by"),
            sa.not_(is_own).label("is_default"),
        )
        .select_from(sa.join(last, default_limits, same, full=True))
        .subquery("in_force")
    )
    return sa.select(in_force).where(in_force.c.amount_minor.is_not(None))


async def list_limits_in_force(tx: AsyncConnection, currency: str = "") -> list[sa.Row[Any]]:
    """All of them, or of one currency, by type and currency."""
    found = select_limits_in_force()
    c = found.selected_columns
    if currency:
        found = found.where(c.currency == currency)
    return list(await tx.execute(found.order_by(c.limit_type, c.currency)))


async def find_limit(tx: AsyncConnection, transaction_limit_id: str) -> sa.Row[Any] | None:
    """The limit in force under an id, which belongs to its organization, type and currency."""
    return next(iter(await list_limits_by_id(tx, [transaction_limit_id])), None)


async def list_limits_by_id(tx: AsyncConnection, transaction_limit_ids: Collection[str]) -> list[sa.Row[Any]]:
    return [row for row in await list_limits_in_force(tx) if messages.limit_id_of(row) in transaction_limit_ids]


async def find_limit_of(tx: AsyncConnection, limit_type: str, currency: str) -> sa.Row[Any] | None:
    """The limit in force of one type and currency."""
    return next((row for row in await list_limits_in_force(tx, currency) if row.limit_type == limit_type), None)


async def find_default(tx: AsyncConnection, limit_type: str, currency: str) -> sa.Row[Any] | None:
    """What holds where the organization sets none of its own."""
    mine = (_default.limit_type == limit_type, _default.currency == currency)
    return (await tx.execute(sa.select(default_limits).where(*mine))).one_or_none()


async def list_limits(tx: AsyncConnection, currency: str) -> list[Limit]:
    """One limit a type. Where nobody set one for this currency it is nothing: what has no limit is not allowed.

    Raises: NotSealed.
    """
    check_rows(tx, transaction_limits, await tx.execute(_select_last().where(_own.currency == currency)))
    amounts = {row.limit_type: row.amount_minor for row in await list_limits_in_force(tx, currency)}
    return [Limit(limit_type, amounts.get(limit_type.value, 0), currency) for limit_type in LimitType]


async def lock_limits(tx: AsyncConnection) -> None:
    """Nobody else changes a limit of the organization until this transaction ends. There may be no row yet to lock."""
    name = f"realco.limits:{current_principal().org_id}"
    await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


async def insert_limit(
    tx: AsyncConnection, limit_type: str, currency: str, amount_minor: int, now: datetime
) -> sa.Row[Any]:
    """Sets a limit of the organization, whose limits are locked; returns it."""
    await _insert(tx, limit_type, currency, amount_minor, now)
    [row] = [row for row in await list_limits_in_force(tx, currency) if row.limit_type == limit_type]
    await outbox.enqueue(tx, events.TransactionLimitPut(transaction_limit=messages.to_limit(row)), now=now)
    return row


async def delete_limit(tx: AsyncConnection, limit: Any, now: datetime) -> sa.Row[Any] | None:
    """Takes back a limit of the organization, whose limits are locked; what was stays on record.

    Returns:
        The default that holds again, if there is one.
    """
    await _insert(tx, limit.limit_type, limit.currency, None, now)
    default = await find_limit_of(tx, limit.limit_type, limit.currency)
    event = events.TransactionLimitDeleted(
        transaction_limit_id=messages.limit_id_of(limit),
        transaction_limit=None if default is None else messages.to_limit(default),
    )
    await outbox.enqueue(tx, event, now=now)
    return default


async def _insert(tx: AsyncConnection, limit_type: str, currency: str, amount_minor: int | None, now: datetime) -> None:
    """In force from `now` on, but after what was set before, whatever clock that had."""
    last = await tx.scalar(
        sa.select(sa.func.max(_own.set_at)).where(
            is_mine(transaction_limits), _own.limit_type == limit_type, _own.currency == currency
        )
    )
    principal = current_principal()
    values = {
        "org_id": principal.org_id,
        "limit_type": limit_type,
        "currency": currency,
        "amount_minor": amount_minor,
        "set_by": principal.person,
        "set_at": now if last is None else max(now, last + timedelta(microseconds=1)),
    }
    seal = seal_of(tx, transaction_limits, values)
    await tx.execute(sa.insert(transaction_limits).values(**values, seal=seal))


# --- what is used of them ---------------------------------------------------------------------------------------------


async def insert_usage(tx: AsyncConnection, rows: Iterable[Mapping[str, Any]]) -> None:
    if values := [{**row, "seal": seal_of(tx, limit_usage, row)} for row in rows]:
        await tx.execute(sa.insert(limit_usage), values)


async def save_counted(tx: AsyncConnection, transaction_id: str, counted: bool, version: int) -> None:
    """Counts a transaction or gives its usage back, unless a later event of it was heard already.

    A row that this service did not write stays as it is: it counts.
    """
    mine = is_mine(limit_usage), _usage.transaction_id == transaction_id
    before = await tx.execute(sa.select(limit_usage).where(*mine, _usage.version < version).with_for_update())
    for row in keep_sealed(tx, limit_usage, before):
        news = {"counted": counted, "version": version}
        seal = seal_of(tx, limit_usage, {**row._mapping, **news})
        await tx.execute(sa.update(limit_usage).where(*mine).values(**news, seal=seal))


async def list_used(
    tx: AsyncConnection, party_ids: Collection[str], currency: str, now: datetime
) -> dict[str, dict[LimitType, int]]:
    """For each party, what counts in the window of each limit that has one.

    Nothing was given back without the seal of this service: what counts needs none, so few rows are asked for it.
    """
    starts = {limit_type: start for limit_type in LimitType if (start := window_start(limit_type, now)) is not None}
    # Sums of accredited parties have no limit, and so may be more than a bigint holds.
    sums = [
        sa.func.coalesce(sa.func.sum(_usage.amount_minor).filter(_usage.counted_at >= start), 0)
        for start in starts.values()
    ]
    within = (
        is_mine(limit_usage),
        _usage.party_id.in_(party_ids),
        _usage.currency == currency,
        _usage.counted_at >= min(starts.values()),
    )
    statement = sa.select(_usage.party_id, *sums).where(*within, _usage.counted).group_by(_usage.party_id)
    used = {row[0]: dict(zip(starts, map(int, row[1:]), strict=True)) for row in await tx.execute(statement)}
    given_back = (await tx.execute(sa.select(limit_usage).where(*within, ~_usage.counted))).all()
    ours = {row.transaction_id for row in keep_sealed(tx, limit_usage, given_back)}
    for row in given_back:
        if row.transaction_id not in ours:
            of_party = used.setdefault(row.party_id, dict.fromkeys(starts, 0))
            for limit_type, start in starts.items():
                of_party[limit_type] += row.amount_minor if row.counted_at >= start else 0
    return used
