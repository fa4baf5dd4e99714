"""What one person alone has stopped of others: written down, and so often and no more (values/stops.py)."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from services.chassis.calls.auth import current_principal
from services.chassis.data.aggregates import seal_columns
from services.chassis.data.locks import lock_name
from services.chassis.data.reach import is_mine
from services.chassis.data.rows import insert_many
from services.chassis.data.seals import keep_sealed
from services.chassis.data.tables import stops
from services.chassis.data.transaction import Tx
from services.chassis.values.ids import new_id
from services.chassis.values.stops import STOPS_WITHIN, check_may_stop

_c = stops.c
_LOOKED_AT_MAX = 10_000
_LATER_MAX = timedelta(minutes=1)


async def note_stop(
    tx: Tx, deed: str, about: str, now: datetime, within: timedelta = STOPS_WITHIN, *, stopped_id: str | None = None
) -> None:
    """The caller stops something of others alone.

    A row that somebody wrote past this service keeps nobody from it, nor do many: what stops money is done rather than
    counted. The log says what is not ours.

    Args:
        deed: What the caller does.
        about: The id of whom or what it stops: to do the same to another one is another deed.
        within: How long each counts: for longer than it takes to put right.
        stopped_id: What of it is stopped, where that has to be tried until it is done: it counts once, before the first
            try, and trying it again is no further stop.

    Raises: TooManyStops.
    """
    mine = {"person_id": current_principal().person, "deed": deed, "about": about}
    # One after the other: of those that come at once none knows of the others.
    await lock_name(tx, "stops", *mine.values())
    # Those of somewhat later than `now`, too: they had the lock first.
    found = sa.select(stops).where(is_mine(stops), _c.stopped_at.between(now - within, now + _LATER_MAX))
    found = found.filter_by(**mine)
    rows = (await tx.execute(found.order_by(_c.stopped_at.desc()).limit(_LOOKED_AT_MAX))).all()
    counted = list(keep_sealed(tx, stops, rows))
    if stopped_id is not None and any(row.stopped_id == stopped_id for row in counted):
        return
    check_may_stop((row.stopped_at for row in counted), now, within)
    this = {"stop_id": new_id("stop"), **mine, "stopped_id": stopped_id, "stopped_at": now}
    await insert_many(tx, stops, [seal_columns(tx, stops, this)])
