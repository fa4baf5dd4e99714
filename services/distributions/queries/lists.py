"""What the lists of offerings, investments and distributions share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.paging import Cut, equal, is_descending, one_of, read_page, time_range, within
from services.distributions.store.aggregates import Aggregate
from services.distributions.store.rows import Row


async def read_page_of(
    tx: AsyncConnection, request: Any, aggregate: Aggregate[Any], *conditions: sa.ColumnElement[bool]
) -> Cut[Row]:
    """The page of a request with `ids`, `external_id`, `from_time`, `to_time` and `order`, by time of creation."""
    table = aggregate.table.c
    key = table[aggregate.key]  # ids sort by time of birth, to the microsecond
    query = aggregate.select().where(
        *conditions,
        *one_of(key, request.ids),
        *equal(table.external_id, request.external_id),
        *within(table.created_at, time_range(request)),
    )
    return await read_page(tx, request, query, [key], descending=is_descending(request))
