"""Locks on what has no row to lock."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx

_NAME = sa.bindparam("name", type_=sa.Text)
_LOCK = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(_NAME, sa.literal_column("0"))))
_NAMES = sa.func.unnest(sa.bindparam("names", type_=pg.ARRAY(sa.Text))).table_valued("name").render_derived()
_LOCK_ALL = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(_NAMES.c.name, sa.literal_column("0"))))


async def lock_name(tx: Tx, *parts: str) -> None:
    """Whoever locks the same name in the caller's organization waits for the end of this transaction."""
    await tx.execute(_LOCK, {"name": _spell(parts)})


async def lock_names(tx: Tx, what: str, names: Collection[str]) -> None:
    """As `lock_name` of each, in the order of the names, so that no two who lock several wait for each other."""
    await tx.execute(_LOCK_ALL, {"names": [_spell((what, name)) for name in sorted(set(names))]})


def _spell(parts: tuple[str, ...]) -> str:
    return "|".join((parts[0], current_principal().org_id, *parts[1:]))
