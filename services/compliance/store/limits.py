"""The limits of an organization, and what each transaction uses of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NoReturn

import sqlalchemy as sa
from realco.compliance.v1 import events_pb2 as events
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.data.aggregates import seal_columns
from services.chassis.data.locks import lock_name
from services.chassis.data.reach import is_mine
from services.chassis.data.rows import check_rows_in_place, insert_new
from services.chassis.data.seals import NotSealed, check_rows, keep_sealed, seal_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.compliance import messages
from services.compliance.domain.limits import Limit, LimitType, Used, window_start
from services.compliance.tables import default_limits, limit_usage, transaction_limits

_own, _default, _usage = transaction_limits.c, default_limits.c, limit_usage.c


def _select_last() -> sa.Select[Any]:
    """What the organization set last of each type and currency: the rows before it count no more."""
    newest = sa.select(transaction_limits).ext(pg.distinct_on(_own.limit_type, _own.currency))
    return newest.where(is_mine(transaction_limits)).order_by(_own.limit_type, _own.currency, _own.set_at.desc())


_LAST = _select_last()
_OF_CURRENCY = sa.bindparam("of_currency", type_=sa.Text)
_LAST_OF = _LAST.where(_own.currency == _OF_CURRENCY)
_DEFAULTS_OF = sa.select(default_limits).where(_default.currency == _OF_CURRENCY)


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


async def keep_ours(tx: Tx, rows: Iterable[Row]) -> list[Row]:
    """Those of the limits in force of which nobody wrote the last word past this service. The others are in the log."""
    last = (await tx.execute(_LAST)).all()
    foreign = {_key_of(row) for row in last} - {_key_of(row) for row in keep_sealed(tx, transaction_limits, last)}
    return [row for row in rows if _key_of(row) not in foreign]


def _key_of(row: Row) -> tuple[str, str]:
    return row.limit_type, row.currency


@dataclass(frozen=True)
class LimitInForce:
    org_id: str
    limit_type: str
    currency: str
    amount_minor: int
    set_at: datetime
    set_by: str | None  # nobody set the default
    is_default: bool


async def list_proven_limits(tx: Tx) -> list[Row]:
    """The limits in force, by type and currency, as far as `keep_ours` keeps them."""
    return await keep_ours(tx, sorted(await tx.execute(select_limits_in_force()), key=_key_of))


async def list_limits_in_force(tx: Tx, currency: str) -> list[LimitInForce]:
    """All of a currency, by type. Raises: NotSealed."""
    given = {"of_currency": currency}
    org_id, found = current_principal().org_id, dict[tuple[str, str], LimitInForce]()
    for row in await tx.execute(_DEFAULTS_OF, given):
        key = row.limit_type, row.currency
        found[key] = LimitInForce(org_id, *key, row.amount_minor, row.set_at, None, True)
    for row in check_rows(tx, transaction_limits, await tx.execute(_LAST_OF, given)):
        key = row.limit_type, row.currency
        if row.amount_minor is not None:
            found[key] = LimitInForce(org_id, *key, row.amount_minor, row.set_at, row.set_by, False)
        elif key in found:  # the default holds again since then
            found[key] = replace(found[key], set_at=row.set_at)
    return [found[key] for key in sorted(found)]


async def list_keys_by_id(tx: Tx, transaction_limit_ids: Collection[str]) -> list[tuple[str, str]]:
    """The type and the currency, from which an id is made, of those in force that have these ids."""
    in_force = await tx.execute(select_limits_in_force())
    return [_key_of(row) for row in in_force if messages.limit_id_of(row) in transaction_limit_ids]


async def find_limit(tx: Tx, transaction_limit_id: str) -> LimitInForce | None:
    """The limit in force under an id. Raises: NotSealed."""
    keys = await list_keys_by_id(tx, [transaction_limit_id])
    return await find_limit_of(tx, *keys[0]) if keys else None


async def find_limit_of(tx: Tx, limit_type: str, currency: str) -> LimitInForce | None:
    """The limit in force of one type and currency."""
    return next((row for row in await list_limits_in_force(tx, currency) if row.limit_type == limit_type), None)


async def find_default(tx: Tx, limit_type: str, currency: str) -> Row | None:
    """What holds where the organization sets none of its own."""
    mine = (_default.limit_type == limit_type, _default.currency == currency)
    return (await tx.execute(sa.select(default_limits).where(*mine))).one_or_none()


async def list_limits(tx: Tx, currency: str) -> list[Limit]:
    """One limit a type. Where nobody set one for this currency it is nothing: what has no limit is not allowed.

    Raises: NotSealed.
    """
    amounts = {each.limit_type: each.amount_minor for each in await list_limits_in_force(tx, currency)}
    return [Limit(limit_type, amounts.get(limit_type.value, 0), currency) for limit_type in LimitType]


async def lock_limits(tx: Tx) -> None:
    """Nobody else changes a limit of the organization until this transaction ends. There may be no row yet to lock."""
    await lock_name(tx, "limits")


async def insert_limit(tx: Tx, limit_type: str, currency: str, amount_minor: int, now: datetime) -> LimitInForce:
    """Sets a limit of the organization, whose limits are locked; returns it."""
    await _insert(tx, limit_type, currency, amount_minor, now)
    [row] = [row for row in await list_limits_in_force(tx, currency) if row.limit_type == limit_type]
    await outbox.enqueue(tx, events.TransactionLimitPut(transaction_limit=messages.to_limit(row)), now=now)
    return row


async def delete_limit(tx: Tx, limit: Any, now: datetime) -> LimitInForce | None:
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


async def _insert(tx: Tx, limit_type: str, currency: str, amount_minor: int | None, now: datetime) -> None:
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


async def insert_usage(tx: Tx, rows: Iterable[dict[str, Any]]) -> None:
    """What was heard of one before stands: it ended while it was decided on, and uses nothing.

    Raises: NotSealed: what stands there this service did not write.
    """
    written = [seal_columns(tx, limit_usage, row) for row in rows]
    inserted = await insert_new(tx, _usage.transaction_id, written)
    if ended := [row for row in written if row["transaction_id"] not in inserted]:
        await check_rows_in_place(tx, limit_usage, ended)


async def save_ended(tx: Tx, usage: dict[str, Any]) -> None:
    """Gives back what a transaction uses, unless a later event of it was heard already.

    Args:
        usage: Its row, that counts for nothing. It is kept where there is none: the transaction may be decided on at
            this moment, and must not count afterwards.

    Raises: NotSealed: which event was heard last, this service did not write.
    """
    inserted = await insert_new(tx, _usage.transaction_id, [seal_columns(tx, limit_usage, usage)])
    if not inserted:
        await save_counted(tx, usage["transaction_id"], False, usage["version"])


async def save_counted(tx: Tx, transaction_id: str, counted: bool, version: int, **changes: int) -> None:
    """Counts a transaction or gives its usage back, unless a later event of it was heard already.

    Args:
        changes: `arrived_minor`, where it is another amount than was decided on.

    Raises: NotSealed: which event was heard last, this service did not write.
    """
    mine = is_mine(limit_usage), _usage.transaction_id == transaction_id
    before = await tx.execute(sa.select(limit_usage).where(*mine).with_for_update())
    for row in check_rows(tx, limit_usage, before):
        if row.version < version:
            news = {"counted": counted, "version": version, **changes}
            seal = seal_of(tx, limit_usage, {**row._mapping, **news})
            await tx.execute(sa.update(limit_usage).where(*mine).values(**news, seal=seal))


async def list_used(tx: Tx, party_ids: Collection[str], currency: str, now: datetime) -> tuple[Used, Used]:
    """What counts in the window of each limit that has one: by our own rows alone, and with those that are not ours.

    A row that this service did not write counts, whatever it says, so nobody gives a used limit back with it; and it
    refuses nothing, so nobody uses up the limit of another with it.
    """
    starts = {limit_type: start for limit_type in LimitType if (start := window_start(limit_type, now)) is not None}
    within = {"party_ids": list(party_ids), "of_currency": currency, "since": min(starts.values())}
    rows = (await tx.execute(_USED, within)).all()
    ours = {row.transaction_id for row in keep_sealed(tx, limit_usage, rows)}
    certain, at_most = defaultdict[str, Counter[LimitType]](Counter), defaultdict[str, Counter[LimitType]](Counter)
    for row in rows:
        is_ours = row.transaction_id in ours
        if row.counted or not is_ours:
            amounts = (row.amount_minor, row.arrived_minor or 0)
            used_minor = (amounts[1] or amounts[0]) if is_ours else max(amounts)
            counts = {limit_type: used_minor for limit_type, start in starts.items() if row.counted_at >= start}
            at_most[row.party_id].update(counts)
            if is_ours:
                certain[row.party_id].update(counts)
    return certain, at_most


_USED = sa.select(limit_usage).where(
    is_mine(limit_usage),
    _usage.party_id == sa.any_(sa.bindparam("party_ids", type_=sa.ARRAY(sa.Text))),
    _usage.currency == _OF_CURRENCY,
    _usage.counted_at >= sa.bindparam("since", type_=_usage.counted_at.type),
)


def refuse_doubted(party_id: str) -> NoReturn:
    """It depends on rows of the party that are not ours. Raises: NotSealed."""
    raise NotSealed(limit_usage.name, f"of {party_id}")
