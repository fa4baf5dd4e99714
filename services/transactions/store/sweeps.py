"""Sweeps: the whole of each as it was last read, and the parts and lines of organizations.

The whole is no organization's. A row of it that this service did not write says nothing: the sweep counts as never
read, so whoever altered it has a person called once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.database import Database
from services.chassis.data.locks import lock_name
from services.chassis.data.reads import compile_for_all
from services.chassis.data.seals import NotSealed, check_read_row, keep_readable, seal_of
from services.chassis.data.sql import Row, build_rows
from services.chassis.data.transaction import Tx
from services.transactions.domain.sweeps import (
    SWEEP_MOVES,
    Explanation,
    KeptLine,
    KnownSweep,
    LineKind,
    ProviderSweep,
    Sweep,
    SweepLine,
    SweepStatus,
)
from services.transactions.tables.sweeps import provider_sweeps, sweep_lines, sweeps

# Of those before one: the first that is ours counts.
_BEFORE_MAX = 20
_k, _s, _l = provider_sweeps.c, sweeps.c, sweep_lines.c
_KNOWN = compile_for_all(
    sa.select(provider_sweeps).where(
        _k.feed == sa.bindparam("feed"), _k.provider_sweep_id == sa.bindparam("provider_sweep_id")
    )
)
_PARTS = compile_for_all(
    sa.select(sweeps)
    .where(_s.provider == sa.bindparam("provider"), _s.provider_sweep_id == sa.bindparam("provider_sweep_id"))
    .order_by(_s.org_id)
)
_BEFORE = compile_for_all(
    sa.select(provider_sweeps)
    .where(_k.feed == sa.bindparam("feed"), _k.currency == sa.bindparam("currency", type_=sa.Text))
    .where(
        sa.tuple_(_k.made_at, _k.provider_sweep_id)
        < sa.tuple_(sa.bindparam("made_at", type_=_k.made_at.type), sa.bindparam("sweep_id", type_=sa.Text))
    )
    .order_by(_k.made_at.desc(), _k.provider_sweep_id.desc())
    .limit(_BEFORE_MAX)
)
_KEPT = sa.select(sweep_lines, _s.provider_sweep_id).join(
    sweeps, sa.and_(_s.org_id == _l.org_id, _s.sweep_id == _l.sweep_id)
)
_KEPT_IN = compile_for_all(
    _KEPT.where(_s.provider == sa.bindparam("provider"), _s.provider_sweep_id == sa.bindparam("provider_sweep_id"))
)
_KEPT_OF = compile_for_all(
    _KEPT.where(
        _l.provider == sa.bindparam("provider"),
        _l.provider_movement_id == sa.any_(sa.bindparam("movement_ids", type_=pg.ARRAY(sa.Text))),
        _s.provider_sweep_id != sa.bindparam("provider_sweep_id"),
    )
)
_KEY = frozenset({"feed", "provider_sweep_id"})


def _read_sweep(row: Row) -> Sweep:
    return read_fields(Sweep, row, status=SweepStatus(row.status))


def _read_line(row: Row) -> SweepLine:
    return read_fields(SweepLine, row, kind=LineKind(row.kind))


SWEEPS = Aggregate(
    sweeps,
    "sweep_id",
    _read_sweep,
    lambda sweep: list_columns(sweeps, sweep, status=sweep.status.value),
    SWEEP_MOVES,
)
LINES = Aggregate(
    sweep_lines,
    "sweep_line_id",
    _read_line,
    lambda line: list_columns(sweep_lines, line, kind=line.kind.value),
)


class Kept(NamedTuple):
    """
    Args:
        sweep: None where nothing of ours says it.
        version: Of what stands there, whoever wrote it; None where nothing does.
    """

    sweep: KnownSweep | None
    version: int | None


async def read_known(database: Database, feed: str, provider_sweep_id: str) -> Kept:
    found = build_rows(await database.send_for_all(_KNOWN[0], feed, provider_sweep_id))
    if not found:
        return Kept(None, None)
    row = found[0]
    try:
        return Kept(_read_known(database, row), row.version)
    except NotSealed:
        return Kept(None, row.version)


def _read_known(database: Database, row: Row) -> KnownSweep:
    """Raises: NotSealed."""
    check_read_row(database.seals, provider_sweeps, row)
    return read_fields(KnownSweep, row, status=SweepStatus(row.status), explanation=Explanation(row.explanation))


async def find_destination_before(database: Database, feed: str, theirs: ProviderSweep) -> str | None:
    """Of the last one that was made before it in its currency, however long ago. Raises: NotSealed."""
    found = build_rows(
        await database.send_for_all(_BEFORE[0], feed, theirs.amount.currency, theirs.made_at, theirs.sweep_id)
    )
    if ours := keep_readable(found, partial(_read_known, database)):
        return ours[0].destination
    return _read_known(database, found[0]).destination if found else None


async def list_kept(
    database: Database, provider: str, provider_sweep_id: str, movement_ids: Sequence[str]
) -> list[KeptLine]:
    """All lines that are kept of a sweep, and of these movements in any other, of all organizations.

    What this service did not write is left out: whoever would write a line in its place comes upon it.
    """
    kept_in = await database.send_for_all(_KEPT_IN[0], provider, provider_sweep_id)
    kept_of = await database.send_for_all(_KEPT_OF[0], provider, movement_ids, provider_sweep_id)

    def read(row: Row) -> KeptLine:
        return KeptLine(row.org_id, row.provider_sweep_id, _read_line(check_read_row(database.seals, sweep_lines, row)))

    return keep_readable(build_rows([*kept_in, *kept_of]), read)


async def save_known(tx: Tx, kept: Kept, sweep: KnownSweep, now: datetime) -> None:
    """As it was read now. Where somebody else has written it meanwhile, it is read again."""
    version = 1 if kept.version is None else kept.version + 1
    written = asdict(replace(sweep, version=version))
    values: dict[str, Any] = {**written, "status": sweep.status.value, "explanation": sweep.explanation.value}
    values["updated_at"] = now
    values["seal"] = seal_of(tx, provider_sweeps, values)
    if kept.version is None:
        await tx.execute(pg.insert(provider_sweeps).values(values).on_conflict_do_nothing())
        return
    here = sa.and_(_k.feed == sweep.feed, _k.provider_sweep_id == sweep.provider_sweep_id, _k.version == kept.version)
    changed = {name: value for name, value in values.items() if name not in _KEY}
    await tx.execute(sa.update(provider_sweeps).where(here).values(changed))


async def list_owners(database: Database, provider: str, provider_sweep_id: str) -> set[str]:
    """Which organizations may have a part of it: each is asked for its seal there."""
    return {row["org_id"] for row in await database.send_for_all(_PARTS[0], provider, provider_sweep_id)}


async def list_parts(database: Database, provider: str, provider_sweep_id: str) -> dict[str, Sweep]:
    """Of all organizations, by organization. Raises: NotSealed."""
    found = build_rows(await database.send_for_all(_PARTS[0], provider, provider_sweep_id))
    return {row.org_id: _read_sweep(check_read_row(database.seals, sweeps, row)) for row in found}


async def lock_part(tx: Tx, provider: str, provider_sweep_id: str) -> Sweep | None:
    """The caller's organization's; nobody else writes it until this transaction ends. Raises: NotSealed."""
    await lock_name(tx, "sweeps", provider, provider_sweep_id)
    found = await SWEEPS.lock_all(tx, _s.provider == provider, _s.provider_sweep_id == provider_sweep_id)
    return next(iter(found), None)


async def find_own_destination_before(tx: Tx, feed: str, theirs: ProviderSweep) -> str | None:
    """Of the last one before it in its currency in which the caller's organization has a part. Raises: NotSealed."""
    made = sa.tuple_(_s.made_at, _s.provider_sweep_id) < sa.tuple_(sa.literal(theirs.made_at), theirs.sweep_id)
    of_feed = SWEEPS.select().where(_s.feed == feed, _s.currency == theirs.amount.currency, made)
    newest = of_feed.order_by(_s.made_at.desc(), _s.provider_sweep_id.desc()).limit(_BEFORE_MAX)
    found = (await tx.execute(newest)).all()
    if ours := keep_readable(found, partial(SWEEPS.read_sealed, tx)):
        return ours[0].destination
    return SWEEPS.read_sealed(tx, found[0]).destination if found else None


async def list_lines(tx: Tx, sweep_id: str) -> dict[str, SweepLine]:
    """Of a part, by what the provider calls the movement. Raises: NotSealed."""
    return {each.provider_movement_id: each for each in await LINES.list_all(tx, _l.sweep_id == sweep_id)}
