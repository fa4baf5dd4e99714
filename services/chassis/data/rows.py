"""Statements over many rows of the caller's organization: one round trip, however many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.values.invariant import invariant

Row = sa.Row[Any]


async def insert_many(tx: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """All the rows in one statement and one round trip, in the caller's organization."""
    if not rows:
        return
    names = list(rows[0])
    source = build_values_table(*((name, table.c[name].type, [row[name] for row in rows]) for name in names))
    columns = [source.c[name] for name in names]
    organization = sa.literal(current_principal().org_id)
    await tx.execute(sa.insert(table).from_select([*names, "org_id"], sa.select(*columns, organization)))


def build_values_table(*columns: tuple[str, sa.types.TypeEngine[Any], Sequence[object]]) -> sa.TableValuedAlias:
    """Values as a table to select from or join: an array a column, so that any number of rows is one statement."""
    is_flat = not any(isinstance(kind, sa.ARRAY) for _, kind, _ in columns)
    invariant(is_flat, "PostgreSQL would take arrays in an array apart, down to their elements")
    arrays = [
        sa.cast(sa.bindparam(None, list(values), type_=pg.ARRAY(kind, dimensions=1), unique=True), pg.ARRAY(kind))
        for _, kind, values in columns
    ]
    names = [sa.column(name, kind) for name, kind, _ in columns]
    return sa.func.unnest(*arrays).table_valued(*names).render_derived()
