"""Reads the events of transfers at Plaid in their order, and has each applied as a webhook that came.

A webhook of Plaid's says only that there are events. Lost, repeated or late, it changes nothing: they are read from the
one after the last that was stored, from time to time anyway. What is stored and how far it goes are one transaction.
"""

from __future__ import annotations

from services.chassis.process.telemetry import log
from services.transactions.dependencies import Dependencies
from services.transactions.providers import plaid
from services.transactions.providers.plaid.transfers import PlaidTransfers, find_desk
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.store import plaid as store
from services.transactions.store import webhooks

# Of events at a time: a batch ends within the lease of the webhook that says that there are any.
_PAGES_MAX = 20


async def sync_plaid_transfers(dependencies: Dependencies) -> int:
    """How many events are new."""
    desk = find_desk(dependencies.providers.orders)
    if desk is None:
        return 0
    try:
        return await read_events(dependencies, desk)
    except OutcomeUnknown as error:  # no payment waits for it: each is looked up as well
        log.warning("events_not_read", provider=plaid.NAME, cause=str(error))
        return 0


async def read_events(dependencies: Dependencies, desk: PlaidTransfers) -> int:
    """Stores what came since; how many events. Several may do so at once: one of them stores each page.

    Raises:
        OutcomeUnknown: Plaid does not say.
    """
    stored = 0
    for _ in range(_PAGES_MAX):
        after_id = await store.read_cursor(dependencies.database, desk.feed)
        page = await desk.list_events(after_id)
        if page.found:
            now = dependencies.clock.now()
            received = [webhooks.build_received(plaid.NAME, event, body, now) for _, event, body in page.found]
            async with dependencies.database.begin_for_all() as tx:
                if await store.advance_cursor(tx, desk.feed, after_id, page.found[-1][0], now):
                    stored += await webhooks.insert_all_received(tx, received)
        if not page.has_more:
            break
    if stored:
        dependencies.work_due.set()
    return stored
