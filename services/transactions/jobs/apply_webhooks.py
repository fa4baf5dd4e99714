"""Applies webhooks by what the provider answers now: the webhook itself is only a hint to look (reliability rule c25).

Whose a webhook is, is known once its payment is found. The inbox belongs to nobody, so its row is finished after the
organization's transaction has committed; a crash between the two has it applied again, which changes nothing.
"""

from __future__ import annotations

from functools import partial

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.statements import Row
from services.transactions.commands import webhooks
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.payments import Payment
from services.transactions.jobs.batches import CALLS_MAX, do_each
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.store import provider_payments
from services.transactions.store import webhooks as store

UNAPPLIED = store.build_taking(count_max=CALLS_MAX)


async def apply_webhooks(dependencies: Dependencies) -> int:
    async with dependencies.database.begin_for_all() as tx:
        taken = await store.take_webhooks(tx, UNAPPLIED)
    await do_each(taken, partial(_look_up_and_apply, dependencies))
    return len(taken)


async def _look_up_and_apply(dependencies: Dependencies, taken: Row) -> None:
    try:
        payment = await dependencies.providers.look_ups[taken.provider].get_payment(taken.provider_reference)
    except OutcomeUnknown:
        await _postpone(dependencies, taken)
        return
    owner = None if payment is None else await _find_owner(dependencies, taken, payment)
    if payment is None or owner is None:
        why = "the provider has no such payment" if payment is None else "not a payment of ours"
        await _finish(dependencies, taken, ignored_because=why)
        return
    org_id, transaction_id = owner
    with acting_as(service_principal(NAME, org_id)):
        async with dependencies.database.begin() as tx:
            done = await webhooks.apply_webhook(tx, taken, payment, transaction_id, dependencies.clock.now())
    if done:
        await _finish(dependencies, taken)
        dependencies.work_due.set()
    else:
        await _postpone(dependencies, taken)


async def _find_owner(dependencies: Dependencies, taken: Row, payment: Payment) -> tuple[str, str] | None:
    async with dependencies.database.begin_for_all() as tx:
        return await provider_payments.find_owner(tx, taken.provider, payment.payment_id, payment.reference)


async def _finish(dependencies: Dependencies, taken: Row, *, ignored_because: str | None = None) -> None:
    async with dependencies.database.begin_for_all() as tx:
        await store.finish_webhook(tx, taken, ignored_because=ignored_because)


async def _postpone(dependencies: Dependencies, taken: Row) -> None:
    async with dependencies.database.begin_for_all() as tx:
        await store.postpone_webhook(tx, taken)
