"""How far each feed was read: of each provider its events and its sweeps.

Of a return that comes late an event alone may tell, so a position is sealed: whoever moves it with a login of the
database has nothing passed over. A trigger lets it go on by one version at a time, so that nobody puts an earlier one
back over and over. One that was kept from before a restore is of another incarnation, and counts for nothing (ADR 25).
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.database import Database
from services.chassis.data.incarnation import INCARNATION, read_incarnation
from services.chassis.data.reads import compile_for_all
from services.chassis.data.seals import NotSealed, check_read_row, seal_of
from services.chassis.data.sql import build_rows
from services.chassis.data.transaction import Tx
from services.transactions.tables.webhooks import feed_cursors

_c = feed_cursors.c
_CURSOR = compile_for_all(sa.select(feed_cursors, INCARNATION.label("of_now")).where(_c.feed == sa.bindparam("feed")))
_ORDERED = "SELECT 1 AS is_there FROM public.provider_payments WHERE provider = $1 AND sent_at < $2 LIMIT 1"


class Cursor(NamedTuple):
    """
    Args:
        reached: Of events the id of the last one that was stored, empty where the provider had none; of sweeps when the
            last one was made before which none is open. None where nothing of ours says it.
        version: Of what stands there, whoever wrote it; None where nothing does.
    """

    reached: str | None
    version: int | None


async def read_cursor(database: Database, feed: str) -> Cursor:
    found = build_rows(await database.send_for_all(_CURSOR[0], feed))
    if not found:
        return Cursor(None, None)
    try:
        check_read_row(database.seals, feed_cursors, found[0])
    except NotSealed:
        return Cursor(None, found[0].version)
    is_of_now = found[0].incarnation == found[0].of_now
    return Cursor(found[0].reached if is_of_now else None, found[0].version)


async def has_ordered(database: Database, provider: str, before: datetime) -> bool:
    """Whether payments were ordered there before then, so that its events were read."""
    return bool(await database.send_for_all(_ORDERED, provider, before))


async def save_cursor(tx: Tx, feed: str, found: Cursor, reached: str, now: datetime) -> bool:
    """Moves it on, with what the same transaction stores; False where somebody else has moved it meanwhile."""
    version = 1 if found.version is None else found.version + 1
    values = {"feed": feed, "reached": reached, "version": version, "updated_at": now}
    values["incarnation"] = await read_incarnation(tx)
    values["seal"] = seal_of(tx, feed_cursors, values)
    if found.version is None:
        added = pg.insert(feed_cursors).values(values).on_conflict_do_nothing()
        return bool((await tx.execute(added)).rowcount == 1)
    changed = {name: value for name, value in values.items() if name != "feed"}
    here = sa.and_(_c.feed == feed, _c.version == found.version)
    return bool((await tx.execute(sa.update(feed_cursors).where(here).values(changed))).rowcount == 1)
