"""What payees owe, set off by escrow before their payouts are asked for, where the offering's policy says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from realco.escrow.v1 import postings_pb2
from realco.type.v1 import money_pb2

from services.chassis.calls.peers import check_answers
from services.chassis.data.transaction import Tx
from services.distributions.clients import Escrow
from services.distributions.commands.payouts.outcomes import record_set_off
from services.distributions.dependencies import Dependencies
from services.distributions.domain.payout import Payout, set_off
from services.distributions.store.distributions import lock_distribution
from services.distributions.store.offerings import lock_offering, require_offering
from services.distributions.store.payouts import PAYOUTS, lock_payouts
from services.distributions.store.sagas import Saga, continue_saga


async def set_off_receivables(saga: Saga, dependencies: Dependencies, waiting: Sequence[Payout]) -> None:
    """Each pays the rest from here on; one of which nothing is left is paid.

    Two persons may have changed the policy since it was ordered: nothing is set off then that was not already. An
    answer may have been lost, or a call be under way still, so escrow is asked all the same.

    Raises DomainError where the outcome is unknown: the same is asked for again.
    """
    database = dependencies.database
    async with database.begin() as tx:
        offering = await require_offering(tx, waiting[0].offering_id)
    amounts = await _ask(dependencies.peers.escrow, waiting, gives_up=not offering.sets_off)
    async with database.begin() as tx:
        await continue_saga(tx, saga)
        await _record(tx, waiting, amounts, dependencies.clock.now())


async def _ask(peer: Escrow, waiting: Sequence[Payout], *, gives_up: bool) -> dict[str, int]:
    """How much escrow has set off of each, by its key, in minor units."""
    request = postings_pb2.SetOffReceivablesRequest(payouts=map(_to_item, waiting), gives_up=gives_up)
    results = (await peer.set_off_receivables(request)).set_offs
    keys = [payout.request_key for payout in waiting]
    check_answers(keys, [result.idempotency_key for result in results], "SetOffReceivables")
    return {result.idempotency_key: result.set_off_amount.amount_minor for result in results}


async def _record(tx: Tx, waiting: Sequence[Payout], amounts: dict[str, int], now: datetime) -> None:
    """All payouts of a saga are of one distribution, or of one offering, which is locked first."""
    first = waiting[0]
    if first.distribution_id is not None:
        await lock_distribution(tx, first.distribution_id)
    else:
        await lock_offering(tx, first.offering_id)
    changes = [
        (payout, set_off(payout, amounts[payout.request_key]))
        for payout in await lock_payouts(tx, sorted(payout.request_key for payout in waiting))
        if payout.awaits_set_off
    ]
    for payout in await PAYOUTS.save_all(tx, changes, now):
        if not payout.amount_minor:
            await record_set_off(tx, payout, now)


def _to_item(payout: Payout) -> postings_pb2.SetOffReceivablesRequest.Payout:
    return postings_pb2.SetOffReceivablesRequest.Payout(
        idempotency_key=payout.request_key,
        escrow_account_id=payout.escrow_account_id,
        type=payout.type.value,
        party_id=payout.party_id,
        amount=money_pb2.Money(currency_code=payout.currency, amount_minor=payout.amount_minor),
        investment_id=payout.investment_id,
        distribution_id=payout.distribution_id,
    )
