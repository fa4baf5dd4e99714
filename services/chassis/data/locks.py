"""Locks on what has no row to lock."""

from __future__ import annotations

import sqlalchemy as sa

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx

_NAME = sa.bindparam("name", type_=sa.Text)
_LOCK = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(_NAME, sa.literal_column("0"))))


async def lock_name(tx: Tx, *parts: str) -> None:
    """Whoever locks the same name in the caller's organization waits for the end of this transaction."""
    name = "|".join((parts[0], current_principal().org_id, *parts[1:]))
    await tx.execute(_LOCK, {"name": name})
