"""Applies webhooks by what the provider answers now: the webhook itself is only a hint to look (reliability rule c25).

Whose a webhook is, is known once its payment is found. As it was received it belongs to nobody, so its row is finished
after the organization's transaction has committed; a crash between the two has it applied again, which changes nothing.
Those about one payment that wait together are applied by one look at it. One that is about none says that the provider
has events to fetch: they are stored as webhooks of their own. One about a verification of a bank account brings that to
where its provider has it, and is no organization's webhook: those are about transactions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.sql import Row
from services.transactions.commands import webhooks
from services.transactions.commands.exceptions import report_apart
from services.transactions.commands.settlement import describe_payment
from services.transactions.commands.verifications import apply_verification
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import Payment
from services.transactions.jobs.batches import CALLS_MAX, ask_each, do_groups
from services.transactions.jobs.read_provider_events import read_events
from services.transactions.providers.protocols import AccountVerifications, OutcomeUnknown
from services.transactions.store import provider_payments
from services.transactions.store import webhooks as store

TAKING_WEBHOOKS = store.build_taking(count_max=CALLS_MAX)


async def apply_webhooks(dependencies: Dependencies) -> int:
    taken = await store.take_webhooks(dependencies.database, TAKING_WEBHOOKS)
    about: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in taken:
        about[row.provider, row.provider_reference].append(row)

    async def write(answered: Sequence[tuple[list[Row], _Found | None]]) -> None:
        found: dict[str, list[_Found]] = defaultdict(list)
        for _, one in answered:
            if one is not None:
                found[one.org_id].append(one)
        await do_groups(found, partial(_apply, dependencies))

    await ask_each(list(about.values()), partial(_ask, dependencies), write)
    return len(taken)


class _Found(NamedTuple):
    """Webhooks about one payment, as its provider has it now, and whose it is."""

    taken: Sequence[Row]
    payment: Payment
    org_id: str
    transaction_id: str


async def _ask(dependencies: Dependencies, taken: Sequence[Row]) -> _Found | None:
    """None where there is nothing to apply to a transaction, or it is not known yet.

    Args:
        taken: About one payment or verification, or about none.
    """
    provider, provider_id = taken[0].provider, taken[0].provider_reference
    verifications = dependencies.providers.verifications.get(provider)
    try:
        if provider_id is None:
            await _fetch_events(dependencies, provider, taken)
        elif verifications is not None and verifications.is_about(provider_id):
            await _apply_verification(dependencies, verifications, taken)
        else:
            return await _look_up(dependencies, taken)
    except OutcomeUnknown:
        await _postpone(dependencies, taken)
    return None


async def _apply_verification(
    dependencies: Dependencies, verifications: AccountVerifications, taken: Sequence[Row]
) -> None:
    """Raises: OutcomeUnknown: the provider does not say; it is asked again."""
    provider, provider_id = taken[0].provider, taken[0].provider_reference
    theirs = await verifications.get_verification(provider_id)
    why = await apply_verification(dependencies, provider, theirs)
    await store.finish_webhooks(dependencies.database, taken, ignored_because=why)


async def _look_up(dependencies: Dependencies, taken: Sequence[Row]) -> _Found | None:
    """None where it is no payment of ours. Raises: OutcomeUnknown: the provider does not say; it is asked again."""
    provider, payment_id = taken[0].provider, taken[0].provider_reference
    database = dependencies.database
    payment = await dependencies.providers.require_look_ups(provider).get_payment(payment_id)
    owner = None
    if payment is not None:
        owner = await provider_payments.find_owner(database, provider, payment.payment_id, payment.reference)
    if payment is None or owner is None:
        if payment is not None and (payment.reference or payment.is_misused):
            about = describe_payment(provider, payment)  # of nobody, for nobody here has ordered it
            cause = _explain_not_ours(payment)
            await report_apart(dependencies, None, ExceptionKind.PAYMENT_NOT_OURS, about, cause)
        why = "the provider has no such payment" if payment is None else "not a payment of ours"
        await store.finish_webhooks(database, taken, ignored_because=why)
        return None
    return _Found(taken, payment, *owner)


def _explain_not_ours(payment: Payment) -> str:
    """An attempt is in the database before its provider is asked: one that is not was there, and is gone."""
    if payment.is_misused:
        return "it bears words of an order"
    return f"it is our order {payment.reference}, of which this database knows no attempt: was it restored?"


async def _fetch_events(dependencies: Dependencies, provider: str, taken: Sequence[Row]) -> None:
    """Raises: OutcomeUnknown: the provider does not say; it is asked again."""
    source = dependencies.providers.events.get(provider)
    if source is not None:
        await read_events(dependencies, provider, source)
    why = "nothing is ordered there any more" if source is None else None
    await store.finish_webhooks(dependencies.database, taken, ignored_because=why)


async def _apply(dependencies: Dependencies, org_id: str, found: Sequence[_Found]) -> None:
    done: list[Row] = []
    early: list[Row] = []
    with acting_as(service_principal(NAME, org_id)):
        async with dependencies.database.begin() as tx:
            # In the order in which everybody locks transactions.
            for taken, payment, _, transaction_id in sorted(found, key=attrgetter("transaction_id")):
                now = dependencies.clock.now()
                is_done = await webhooks.apply_webhooks(tx, taken, payment, transaction_id, now)
                (done if is_done else early).extend(taken)
    await store.finish_webhooks(dependencies.database, done)
    if early:
        await _postpone(dependencies, early)


async def _postpone(dependencies: Dependencies, taken: Sequence[Row]) -> None:
    async with dependencies.database.begin_for_all() as tx:
        for row in taken:
            await store.postpone_webhook(tx, row)
