"""Applies webhooks by what the provider answers now: the webhook itself is only a hint to look (reliability rule c25).

Whose a webhook is, is known once its payment is found. The inbox belongs to nobody, so its row is finished after the
organization's transaction has committed; a crash between the two has it applied again, which changes nothing. Those
about one payment that wait together are applied by one look at it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.statements import Row
from services.transactions.commands import webhooks
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.jobs.batches import CALLS_MAX, do_each
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.store import provider_payments
from services.transactions.store import webhooks as store

UNAPPLIED = store.build_taking(count_max=CALLS_MAX)


async def apply_webhooks(dependencies: Dependencies) -> int:
    taken = await store.take_webhooks(dependencies.database, UNAPPLIED)
    about: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in taken:
        about[row.provider, row.provider_reference].append(row)
    await do_each(list(about.values()), partial(_look_up_and_apply, dependencies))
    return len(taken)


async def _look_up_and_apply(dependencies: Dependencies, taken: Sequence[Row]) -> None:
    """
    Args:
        taken: About one payment.
    """
    provider, payment_id = taken[0].provider, taken[0].provider_reference
    database = dependencies.database
    try:
        payment = await dependencies.providers.look_ups[provider].get_payment(payment_id)
    except OutcomeUnknown:
        await _postpone(dependencies, taken)
        return
    owner = None
    if payment is not None:
        owner = await provider_payments.find_owner(database, provider, payment.payment_id, payment.reference)
    if payment is None or owner is None:
        why = "the provider has no such payment" if payment is None else "not a payment of ours"
        await store.finish_webhooks(database, taken, ignored_because=why)
        return
    org_id, transaction_id = owner
    with acting_as(service_principal(NAME, org_id)):
        async with database.begin() as tx:
            done = await webhooks.apply_webhooks(tx, taken, payment, transaction_id, dependencies.clock.now())
    if done:
        await store.finish_webhooks(database, taken)
    else:
        await _postpone(dependencies, taken)


async def _postpone(dependencies: Dependencies, taken: Sequence[Row]) -> None:
    async with dependencies.database.begin_for_all() as tx:
        for row in taken:
            await store.postpone_webhook(tx, row)
