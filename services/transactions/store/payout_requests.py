"""Items of BatchCreatePayouts: a key is decided once, for ever. A row names the transaction, or holds the refusal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_rows, seal_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.transactions.tables import payout_requests

_c = payout_requests.c


async def list_payout_requests(tx: Tx, keys: Collection[str]) -> dict[str, Row]:
    """Raises: NotSealed."""
    statement = sa.select(payout_requests).where(is_mine(payout_requests), _c.idempotency_key.in_(keys))
    return {row.idempotency_key: row for row in check_rows(tx, payout_requests, await tx.execute(statement))}


async def insert_payout_requests(tx: Tx, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Takes the keys, in their order so that no two batches wait for each other; returns those that were free."""
    if not rows:
        return set()
    values = [{**row, "seal": seal_of(tx, payout_requests, row)} for row in rows]
    values.sort(key=lambda row: str(row["idempotency_key"]))
    statement = pg.insert(payout_requests).values(values).on_conflict_do_nothing().returning(_c.idempotency_key)
    return set(await tx.scalars(statement))
