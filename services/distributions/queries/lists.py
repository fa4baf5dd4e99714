"""What every list of this service does: filters, a range of creation, an order, a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.paging import Cut, Page, is_descending, time_range, within
from services.distributions.store.aggregates import Aggregate
from services.distributions.store.rows import Row

V = TypeVar("V")


async def read_page(
    tx: AsyncConnection, request: Any, aggregate: Aggregate[V], *conditions: sa.ColumnElement[bool]
) -> Cut[V]:
    """The page of a request with `ids`, `external_id`, `from_time`, `to_time` and `order`, by time of creation."""
    table = aggregate.table.c
    query = aggregate.select().where(*conditions, *within(table.created_at, time_range(request)))
    if request.ids:
        query = query.where(table[aggregate.key].in_(list(request.ids)))
    if request.external_id:
        query = query.where(table.external_id == request.external_id)
    # Ids sort by time of birth, to the microsecond.
    columns = [table[aggregate.key]]
    descending = is_descending(request)
    return await cut_page(tx, request, query, columns, aggregate.read, descending=descending)


async def cut_page(
    tx: AsyncConnection,
    request: Message,
    query: sa.Select[Any],
    columns: Sequence[sa.ColumnElement[Any]],
    read: Callable[[Row], V],
    *,
    descending: bool,
) -> Cut[V]:
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, columns, descending=descending))).all()
    names = [column.key or "" for column in columns]
    rows, following, previous = page.cut(found, lambda row: tuple(getattr(row, name) for name in names))
    return Cut([read(row) for row in rows], following, previous)
