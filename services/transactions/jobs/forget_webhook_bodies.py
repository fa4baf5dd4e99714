"""Forgets what providers wrote, once it was acted on and the time is over in which anybody asks for the very words.

The row stays: a repeated event still finds it, and the organization's webhook is read and applied again as before,
since that asks the provider and not the body.
"""

from __future__ import annotations

from datetime import timedelta

from services.transactions.dependencies import Dependencies
from services.transactions.store import webhooks as store

KEPT = timedelta(days=90)
_BATCH_MAX = 1_000


async def forget_webhook_bodies(dependencies: Dependencies) -> int:
    before = dependencies.clock.now() - KEPT
    async with dependencies.database.begin_for_all() as tx:
        return await store.forget_bodies(tx, before=before, count_max=_BATCH_MAX)
