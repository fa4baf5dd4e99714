"""Statements over many rows of the caller's organization: one round trip, however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.reach import caller, is_mine
from services.chassis.data.seals import check_rows, is_sealed
from services.chassis.data.transaction import Tx
from services.chassis.values.invariant import invariant

V = TypeVar("V")


async def insert_many(tx: Tx, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """All the rows in one statement and one round trip, in the caller's organization.

    Raises:
        NotSealed: one stands there that this service did not write, with a key that others could foretell.
    """
    if not rows:
        return
    names = tuple(rows[0])
    written = (await tx.execute(_build_insert(table, names), list_by_column(names, rows))).rowcount
    if written != len(rows):
        await check_rows_in_place(tx, table, rows)
        invariant(False, f"what is written to {table.name} is new")


async def insert_new(tx: Tx, column: sa.Column[V], rows: Sequence[Mapping[str, Any]]) -> set[V]:
    """As `insert_many`, without those that are there by any unique key; what the others have in this column."""
    if not rows:
        return set()
    names = tuple(rows[0])
    return set(await tx.scalars(_build_insert_new(column, names), list_by_column(names, rows)))


async def check_rows_in_place(tx: Tx, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Whether this service wrote the rows that have a unique key of one of these. Raises: NotSealed."""
    if not is_sealed(table):
        return
    uniques = [each.columns for each in table.constraints if isinstance(each, sa.UniqueConstraint)]
    indexes = [each.columns for each in table.indexes if each.unique]
    for columns in (table.primary_key.columns, *uniques, *indexes):
        key = [column for column in columns if column.name != "org_id"]
        wanted = [tuple(row.get(column.name) for column in key) for row in rows]
        there = sa.select(table).where(is_mine(table), sa.tuple_(*key).in_(wanted))
        check_rows(tx, table, await tx.execute(there))


@cache
def _build_insert(table: sa.Table, names: Sequence[str]) -> pg.Insert:
    """Without those that are there by any unique key."""
    source = build_values_table(*((name, table.c[name].type) for name in names))
    columns = [source.c[name] for name in names]
    added = pg.insert(table).from_select([*names, "org_id"], sa.select(*columns, caller()))
    return added.on_conflict_do_nothing()


@cache
def _build_insert_new(column: sa.Column[Any], names: Sequence[str]) -> Any:
    return _build_insert(column.table, names).returning(column)


def build_values_table(*columns: tuple[str, sa.types.TypeEngine[Any]]) -> sa.TableValuedAlias:
    """Values as a table to select from or join: an array a column, so that any number of rows is one statement, built
    once. They are given with each call, as `list_by_column` names them.
    """
    is_flat = not any(isinstance(kind, sa.ARRAY) for _, kind in columns)
    invariant(is_flat, "PostgreSQL would take arrays in an array apart, down to their elements")
    arrays = [
        sa.cast(sa.bindparam(_name_all(name), type_=pg.ARRAY(kind, dimensions=1)), pg.ARRAY(kind))
        for name, kind in columns
    ]
    names = [sa.column(name, kind) for name, kind in columns]
    return sa.func.unnest(*arrays).table_valued(*names).render_derived()


def list_by_column(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What the columns of a table of values hold."""
    return {_name_all(name): [row[name] for row in rows] for name in names}


def build_new(columns: Iterable[tuple[str, sa.types.TypeEngine[Any]]]) -> dict[str, sa.BindParameter[Any]]:
    """A row's values, given with each call as `name_new` names them: no column has such a name."""
    return {name: sa.bindparam(_name_one(name), type_=kind) for name, kind in columns}


def name_new(names: Sequence[str], row: Mapping[str, Any]) -> dict[str, Any]:
    return {_name_one(name): row[name] for name in names}


def build_given(columns: Iterable[tuple[str, sa.types.TypeEngine[Any]]], is_one: bool) -> Any:
    """The values of one row, or of many, by column: a statement about one row need not make a table of it."""
    return build_new(columns) if is_one else build_values_table(*columns).c


def name_given(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[bool, dict[str, Any]]:
    """Whether it is one row, and what is given of it or of them, as `build_given` has it."""
    is_one = len(rows) == 1
    return is_one, name_new(names, rows[0]) if is_one else list_by_column(names, rows)


def _name_one(column: str) -> str:
    return f"new_{column}"


def _name_all(column: str) -> str:
    return f"all_{column}"
