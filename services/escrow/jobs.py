"""Escrow's timer: holds end when their time has run out."""

from __future__ import annotations

from services.chassis.calls.auth import ALL_ORGANIZATIONS, acting_as, service_principal
from services.chassis.data.database import Database
from services.chassis.process.jobs import Job
from services.chassis.values.clock import Clock
from services.escrow import commands, store
from services.escrow.domain.refusals import EscrowAccountFrozen, HoldNotOpen

_BATCH_MAX = 100


def jobs(database: Database, clock: Clock) -> list[Job]:
    async def expire_holds() -> int:
        return await expire_due_holds(database, clock)

    return [Job("expire_holds", expire_holds, interval_seconds=0.25)]


async def expire_due_holds(database: Database, clock: Clock) -> int:
    """Ends the oldest due holds, each in a transaction of its own; returns how many it ended.

    The conditional update that ends a hold lets one of several processes win, so nothing is claimed before.
    """
    now = clock.now()
    async with database.begin(ALL_ORGANIZATIONS) as tx:
        due = await store.expired_holds(tx, now, _BATCH_MAX)
    ended = 0
    for hold in due:
        with acting_as(service_principal("escrow", hold.org_id, on_behalf_of=hold.actor)):
            try:
                async with database.begin() as tx:
                    await commands.end_hold(tx, hold.escrow_account_id, hold.hold_id, "EXPIRED", now)
            except (HoldNotOpen, EscrowAccountFrozen):
                continue  # somebody was faster
        ended += 1
    return ended
