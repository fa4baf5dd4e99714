"""Escrow's timers: holds end when their time has run out, and old refusals are forgotten.

Which organizations have holds to end is read over all of them; these are ended in transactions of one each.
"""

from __future__ import annotations

from functools import partial

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.process.jobs import Job
from services.chassis.values.refusals import EscrowAccountFrozen, IllegalStatusChange
from services.escrow import store
from services.escrow.commands import holds
from services.escrow.dependencies import NAME, Dependencies

_BATCH_MAX = 100
_REFUSALS_MAX = 5_000


def build_jobs(dependencies: Dependencies) -> list[Job]:
    return [
        Job("expire_holds", partial(expire_holds, dependencies), interval_seconds=0.25),
        Job("forget_refusals", partial(forget_refusals, dependencies), interval_seconds=3600),
    ]


async def expire_holds(dependencies: Dependencies) -> int:
    """Ends the oldest due holds, each in a transaction of its own; returns how many it ended.

    The conditional update that ends a hold lets one of several processes win, so nothing is claimed before.
    """
    now, database = dependencies.clock.now(), dependencies.database
    async with database.begin_for_all() as tx:
        organizations = await store.list_organizations_with_due_holds(tx, now, _BATCH_MAX)
    ended = 0
    for org_id in organizations:
        async with database.begin(org_id) as tx:
            due = await store.list_due_holds(tx, now, _BATCH_MAX)
        for hold in due:
            with acting_as(service_principal(NAME, org_id)):
                try:
                    async with database.begin() as tx:
                        await holds.end_hold(tx, hold.escrow_account_id, hold.hold_id, "EXPIRED", now)
                except (IllegalStatusChange, EscrowAccountFrozen):
                    continue  # somebody was faster
            ended += 1
    return ended


async def forget_refusals(dependencies: Dependencies) -> int:
    """Frees the keys of refused postings after the time for which every answer is kept; returns how many."""
    async with dependencies.database.begin_for_all() as tx:
        return await store.delete_old_refusals(tx, _REFUSALS_MAX)
