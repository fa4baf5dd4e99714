"""Handled once: an event's effect and its row in `handled_events` are one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data.incarnation import BEGUN_AT
from services.chassis.data.seals import seals_of
from services.chassis.data.tables import handled_events
from services.chassis.data.transaction import Tx

_c = handled_events.c
_EVENT_IDS = sa.bindparam("event_ids", type_=pg.ARRAY(pg.UUID(as_uuid=False)))
_GIVEN = sa.func.unnest(_EVENT_IDS, sa.bindparam("seals", type_=pg.ARRAY(pg.BYTEA)))
_CLAIMED = _GIVEN.table_valued("event_id", "seal", name="claimed").render_derived()
_CLAIM = (
    pg.insert(handled_events)
    .from_select(
        ["org_id", "consumer", "event_id", "incarnation", "seal"],
        sa.select(
            sa.bindparam("of_org_id", type_=sa.Text),
            sa.bindparam("of_consumer", type_=sa.Text),
            _CLAIMED.c.event_id,
            sa.bindparam("of_incarnation", type_=sa.Text),
            _CLAIMED.c.seal,
        ),
    )
    .on_conflict_do_nothing()
    .returning(_c.event_id)
)
_FIND = sa.select(handled_events, (_c.created_at < BEGUN_AT).label("was_there")).where(
    _c.org_id == sa.bindparam("of_org_id"),
    _c.consumer == sa.bindparam("of_consumer"),
    _c.event_id == sa.any_(_EVENT_IDS),
)


async def claim_events(tx: Tx, consumer: str, event_ids: Sequence[str], incarnation: str) -> set[str]:
    """Those of the events of the caller's organization that this consumer has not handled yet; it has when this
    transaction commits.

    Args:
        incarnation: Of the database, as it is now.

    Raises:
        NotSealed: somebody else says that one was handled, or it was in what a restore lost.
    """
    seals, org_id, place = seals_of(tx), current_principal().org_id, handled_events.name
    of_consumer = {"of_org_id": org_id, "of_consumer": consumer}
    made = [seals.make(place, org_id, consumer, event_id, incarnation) for event_id in event_ids]
    given = {"event_ids": list(event_ids), "seals": made, "of_incarnation": incarnation}
    new = {str(event_id) for event_id in await tx.scalars(_CLAIM, of_consumer | given)}
    known = [event_id for event_id in event_ids if event_id not in new]
    for row in await tx.execute(_FIND, of_consumer | {"event_ids": known}) if known else ():
        event_id = str(row.event_id)
        seals.check(row.seal, place, f"{consumer} {event_id}", org_id, consumer, event_id, row.incarnation)
        if row.incarnation != incarnation and not row.was_there:
            seals.refuse(place, f"{consumer} {event_id}")
    return new
