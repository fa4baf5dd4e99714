"""How far the events of each provider were read."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.database import Database
from services.chassis.data.reads import compile_for_all
from services.chassis.data.transaction import Tx
from services.transactions.tables import event_cursors

_c = event_cursors.c
_CURSOR = compile_for_all(sa.select(_c.after_id).where(_c.feed == sa.bindparam("feed")))


async def read_cursor(database: Database, feed: str) -> str:
    """The last event that was stored; empty where none was."""
    found = await database.send_for_all(_CURSOR[0], feed)
    return str(found[0]["after_id"]) if found else ""


async def advance_cursor(tx: Tx, feed: str, after_id: str, last_id: str, now: datetime) -> bool:
    """Moves it on, with what the same transaction stores; False where somebody else has moved it meanwhile."""
    added = pg.insert(event_cursors).values(feed=feed, after_id="", updated_at=now)
    await tx.execute(added.on_conflict_do_nothing())
    ours = sa.and_(_c.feed == feed, _c.after_id == after_id)
    moved = await tx.execute(sa.update(event_cursors).where(ours).values(after_id=last_id, updated_at=now))
    return bool(moved.rowcount == 1)
