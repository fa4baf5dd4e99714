"""What the lists of offerings, investments and distributions share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from services.chassis.data.aggregates import Aggregate
from services.chassis.data.paging import Cut, one_of, read_list
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx


async def read_page_of(
    tx: Tx, request: Any, aggregate: Aggregate[Any], *conditions: sa.ColumnElement[bool]
) -> Cut[Row]:
    """The page of a request with `ids`, `external_id`, `from_time`, `to_time` and `order`, by time of creation."""
    table = aggregate.table.c
    query = aggregate.select().where(
        *conditions,
        *one_of(table[aggregate.key], request.ids),
        *one_of(table.external_id, request.external_id),
    )
    return await read_list(tx, request, query, table.created_at, table[aggregate.key])
