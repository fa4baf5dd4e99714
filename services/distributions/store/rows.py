"""One row of one table by its id: found, locked, inserted, changed.

Locks are FOR NO KEY UPDATE and taken in one order: saga, offering, distribution, investments by id, payouts,
allocations. So no two transactions wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.values.invariant import invariant

Row = sa.Row[Any]


def id_of(table: sa.Table) -> sa.Column[Any]:
    """The column with the row's own id: it leads the primary key."""
    return table.primary_key.columns[0]


async def find(tx: AsyncConnection, table: sa.Table, row_id: str, *, lock: bool = False) -> Row | None:
    query = sa.select(table).where(id_of(table) == row_id)
    return (await tx.execute(query.with_for_update(key_share=True) if lock else query)).one_or_none()


async def insert(tx: AsyncConnection, table: sa.Table, **values: object) -> Row | None:
    """The row as it was stored, in the caller's organization; None if a unique key is taken."""
    row = pg.insert(table).values(org_id=current_principal().org_id, **values)
    return (await tx.execute(row.on_conflict_do_nothing().returning(*table.c))).one_or_none()


async def save(tx: AsyncConnection, table: sa.Table, row_id: str, **changes: object) -> Row:
    """The row after the changes. It exists: the caller holds its lock."""
    update = sa.update(table).where(id_of(table) == row_id).values(**changes).returning(*table.c)
    row = (await tx.execute(update)).one_or_none()
    invariant(row is not None, f"a row of {table.name} that was locked is there")
    assert row is not None
    return row


async def insert_many(tx: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """All the rows in one statement and one round trip, in the caller's organization."""
    if not rows:
        return
    names = list(rows[0])
    source = values_table(*((name, table.c[name].type, [row[name] for row in rows]) for name in names))
    columns = [source.c[name] for name in names]
    organization = sa.literal(current_principal().org_id)
    await tx.execute(sa.insert(table).from_select([*names, "org_id"], sa.select(*columns, organization)))


def values_table(*columns: tuple[str, sa.types.TypeEngine[Any], Sequence[object]]) -> sa.TableValuedAlias:
    """Values as a table to select from or join: an array a column, so that any number of rows is one statement."""
    arrays = [
        sa.cast(sa.bindparam(None, list(values), type_=pg.ARRAY(kind), unique=True), pg.ARRAY(kind))
        for _, kind, values in columns
    ]
    names = [sa.column(name, kind) for name, kind, _ in columns]
    return sa.func.unnest(*arrays).table_valued(*names).render_derived()
