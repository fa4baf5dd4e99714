"""Reads what providers say became of payments, in their order, and has each event applied as a webhook that came.

A webhook may be lost, or somebody there may have switched webhooks off; what is read here is kept by the provider, from
the one after the last that was stored. What is stored and how far it goes are one transaction. Where a
provider sends its events as webhooks, one that came so, too, has the same id, and is stored once, if it says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.chassis.process.health import note_alarm
from services.chassis.process.telemetry import log
from services.transactions.commands.exceptions import report_apart
from services.transactions.dependencies import Dependencies
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.providers.protocols import EventPage, OutcomeUnknown, PaymentEvents
from services.transactions.store import feed_cursors as store
from services.transactions.store import webhooks

# Of events at a time: a batch ends within the lease of the webhook that says that there are any.
_PAGES_MAX = 20
# After the first order there: it is read each minute.
_BEGUN_WITHIN = timedelta(hours=1)


async def read_provider_events(dependencies: Dependencies) -> int:
    """How many events are new."""
    stored = 0
    for provider, source in dependencies.providers.events.items():
        failures = dependencies.failures_of(f"events of {provider}")
        try:
            stored += await read_events(dependencies, provider, source)
            failures.end()
        except OutcomeUnknown as error:  # no payment waits for it: each is looked up as well
            failures.add(error)
            log.warning("events_not_read", provider=provider, cause=str(error))
        except Exception as error:  # nor does another provider
            failures.add(error)
            log.exception("events_not_read", provider=provider, cause=type(error).__name__)
    return stored


async def read_events(dependencies: Dependencies, provider: str, source: PaymentEvents) -> int:
    """Stores what came since; how many events. Several may do so at once: one of them stores each page.

    Raises:
        OutcomeUnknown: the provider does not say.
    """
    stored = 0
    for _ in range(_PAGES_MAX):
        cursor = await store.read_cursor(dependencies.database, source.feed)
        page = await _list_next(dependencies, provider, source, cursor)
        if page.last_id != cursor.reached:
            now = dependencies.clock.now()
            received = [webhooks.build_received(provider, event, body, now) for event, body in page.events]
            contradicted: Sequence[webhooks.Received] = []
            async with dependencies.database.begin_for_all() as tx:
                if await store.save_cursor(tx, source.feed, cursor, page.last_id, now):
                    new, contradicted = await webhooks.insert_all_read(tx, received)
                    stored += new
            # Once it is stored, and in a transaction of its own: with another one open it would wait for itself.
            for each in contradicted:
                await _report(dependencies, each)
        if not page.has_more:
            break
    if stored:
        dependencies.work_due.set()
    return stored


async def _list_next(
    dependencies: Dependencies, provider: str, source: PaymentEvents, cursor: store.Cursor
) -> EventPage:
    """Where nobody knows how far it was read, or the provider keeps that no more, that is told, and all that it still
    keeps is read. Raises: OutcomeUnknown.
    """
    if cursor.reached:
        page = await source.list_events(cursor.reached)
        if page.is_late:
            _tell_lost(dependencies, provider, f"the last one that was read, {cursor.reached}, is not kept any more")
        return page
    if cursor.reached is None:
        before = dependencies.clock.now() - _BEGUN_WITHIN
        if cursor.version is None and not await store.has_ordered(dependencies.database, provider, before):
            return await source.begin()
        _tell_lost(
            dependencies, provider, "how far they were read is not what was written, of before a restore, or gone"
        )
    return await source.list_oldest()


def _tell_lost(dependencies: Dependencies, provider: str, cause: str) -> None:
    """Until the process ends: whoever has compared what became of payments starts it again."""
    log.error("events_lost", provider=provider, cause=cause)
    note_alarm(dependencies.alarms, f"events of {provider} lost", cause)


async def _report(dependencies: Dependencies, read: webhooks.Received) -> None:
    """Of nobody, for whose payment it is is not known yet: who sends such a webhook has the secret of all of them."""
    about = About(provider=read.provider, provider_payment_id=read.provider_reference)
    cause = f"A signed webhook said something else of the event {read.provider_event_id}: what was read is applied."
    await report_apart(dependencies, None, ExceptionKind.PAYMENT_NOT_OURS, about, cause)
