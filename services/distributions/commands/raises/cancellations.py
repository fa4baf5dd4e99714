"""The first step of what goes back: transactions cancels the contributions that wait, and says which ones a bank has.

Those are followed to their end: until then, and until transactions has answered, no investment is CANCELLED.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.data.transaction import Tx
from services.chassis.values.errors import Unavailable
from services.distributions.commands.raises.contributions import record_contribution
from services.distributions.commands.raises.refunds import pay_due_refunds
from services.distributions.dependencies import Dependencies
from services.distributions.store.investments import list_cancelling_ids, lock_investments, save_investments
from services.distributions.store.offerings import lock_offering
from services.distributions.store.sagas import Saga, continue_saga

_BATCH_MAX = 100  # what one CancelContributions takes


async def cancel_contributions(saga: Saga, dependencies: Dependencies) -> bool:
    """False where transactions has answered about all investments that name this saga.

    Raises DomainError where it answered about none: it is asked again.
    """
    database = dependencies.database
    async with database.begin() as tx:
        asked = await list_cancelling_ids(tx, saga.saga_id, _BATCH_MAX)
    if not asked:
        return False
    answer = await dependencies.peers.transactions.cancel_contributions(asked)
    known = set(asked) - set(answer.unknown_investment_ids)
    if not known:
        raise Unavailable("Nobody knows what there is of their contributions.")
    async with database.begin() as tx:
        await continue_saga(tx, saga)
        await _record_answer(tx, saga, known, answer.on_their_way, dependencies.clock.now())
    return True


async def _record_answer(
    tx: Tx, saga: Saga, investment_ids: Collection[str], on_their_way: Sequence[Transaction], now: datetime
) -> None:
    offering = await lock_offering(tx, saga.subject_id)
    await lock_investments(tx, investment_ids)
    for transaction in on_their_way:
        await record_contribution(tx, transaction, transaction.aggregate_version, now)
    # One that came back since is asked about by another saga.
    held = [each for each in await lock_investments(tx, investment_ids) if each.cancelling_saga_id == saga.saga_id]
    answered = [(each, replace(each, cancelling_saga_id=None)) for each in held]
    await save_investments(tx, answered, events.InvestmentUpdated, now)
    await pay_due_refunds(tx, offering, now, investment_ids=sorted(investment_ids))
