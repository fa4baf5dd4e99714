"""Payouts asked of transactions: the intent was committed before, the call has its key, the answer is kept after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from realco.transactions.v1 import payouts_pb2
from realco.transactions.v1.error_reason_pb2 import ErrorReason
from realco.type.v1 import money_pb2

from services.chassis.calls.peers import check_answers
from services.chassis.calls.wire import from_failure
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import AnswerWithheld, DomainError, Unavailable
from services.chassis.values.failure import Failure
from services.chassis.values.refusals import IdempotencyKeyReused
from services.distributions.clients import Transactions
from services.distributions.commands.payouts.outcomes import record_refusal
from services.distributions.commands.payouts.set_offs import set_off_receivables
from services.distributions.dependencies import Dependencies
from services.distributions.domain.distribution import Allocation, count_set_off
from services.distributions.domain.payout import DESCRIPTIONS, Payout, PayoutType
from services.distributions.domain.states import PayoutStatus
from services.distributions.store.allocations import lock_allocations
from services.distributions.store.counted_journals import check_counted
from services.distributions.store.distributions import DISTRIBUTIONS, lock_distribution, save_distribution
from services.distributions.store.offerings import lock_offering, save_offering
from services.distributions.store.payouts import PAYOUTS, list_requested, lock_payouts
from services.distributions.store.sagas import Saga, continue_saga, finish_saga

# Says that the order was not understood as it was meant, and not that no transaction exists: an operator looks, and the
# payout is asked for again.
_NO_REFUSAL = frozenset({IdempotencyKeyReused.reason, ErrorReason.Name(ErrorReason.PAYOUT_NOT_ORDERED)})


@dataclass(frozen=True, slots=True)
class Answers:
    """What transactions said to each payout, by its key."""

    created: dict[str, str] = field(default_factory=dict)  # the transaction
    refused: dict[str, Failure] = field(default_factory=dict)


async def request_payouts(saga: Saga, dependencies: Dependencies) -> None:
    """Asks for the saga's next batch of payouts; the saga is done when there is none left to ask for.

    Where what payees owe is set off, escrow is asked first how much that is: the next step asks for the rest.

    Raises DomainError where the outcome is unknown, or while the offering's contributions are counted anew: the same
    batch is asked for again.
    """
    database = dependencies.database
    async with database.begin() as tx:
        requested = await list_requested(tx, saga.saga_id)
        if requested:
            await check_counted(tx, requested[0].escrow_account_id)
    if waiting := [payout for payout in requested if payout.awaits_set_off]:
        await set_off_receivables(saga, dependencies, waiting)
        return
    answers = await _ask(dependencies.peers.transactions, requested) if requested else Answers()
    async with database.begin() as tx:
        if not requested:
            await finish_saga(tx, saga)
            return
        await continue_saga(tx, saga)
        await _record_answers(tx, requested, answers, dependencies.clock.now())


async def _ask(peer: Transactions, requested: Sequence[Payout]) -> Answers:
    """What is answered about each. A refusal of the whole call is none of a payout: it says nothing of any.

    Raises DomainError where nothing is known of any: they are asked for again.
    """
    request = payouts_pb2.BatchCreatePayoutsRequest(items=[_to_item(payout) for payout in requested])
    try:
        answer = await peer.batch_create_payouts(request)
    except DomainError as refusal:
        if refusal.kind.transient and not isinstance(refusal, AnswerWithheld):
            raise
        if len(requested) == 1:
            log.error("payout_not_answered", request_key=requested[0].request_key, code=refusal.reason)
            raise
        return await _ask_in_halves(peer, requested)
    answers = Answers()
    for result in answer.results:
        if result.HasField("transaction"):
            answers.created[result.idempotency_key] = result.transaction.transaction_id
        elif result.failure.code in _NO_REFUSAL:
            log.error("payout_not_answered", request_key=result.idempotency_key, code=result.failure.code)
        else:
            answers.refused[result.idempotency_key] = from_failure(result.failure)
    keys = [payout.request_key for payout in requested]
    check_answers(keys, [result.idempotency_key for result in answer.results], "BatchCreatePayouts")
    if not answers.created and not answers.refused:
        raise Unavailable("Transactions has other payouts under these keys.")
    return answers


async def _ask_in_halves(peer: Transactions, requested: Sequence[Payout]) -> Answers:
    """One that transactions cannot take does not stop the others. Raises as `_ask`."""
    middle, answers, unknown = len(requested) // 2, Answers(), []
    for half in (requested[:middle], requested[middle:]):
        try:
            found = await _ask(peer, half)
        except DomainError as error:
            unknown.append(error)
        else:
            answers.created.update(found.created)
            answers.refused.update(found.refused)
    if len(unknown) == 2:
        raise unknown[0]
    return answers


async def _record_answers(tx: Tx, requested: Sequence[Payout], answers: Answers, now: datetime) -> None:
    """All payouts of a saga are of one distribution, or of one offering."""
    first = requested[0]
    if first.distribution_id is not None:
        await lock_distribution(tx, first.distribution_id)
    else:
        await lock_offering(tx, first.offering_id)
    # An event may have reported the end before the answer came: then there is nothing left to record.
    created = [
        (payout, replace(payout, status=PayoutStatus.CREATED, transaction_id=answers.created[payout.request_key]))
        for payout in await lock_payouts(tx, sorted(answers.created))
        if payout.status is PayoutStatus.REQUESTED
    ]
    saved = await PAYOUTS.save_all(tx, created, now)
    await _name_transactions(tx, saved, now)
    for payout in requested:
        if payout.request_key in answers.refused:
            await record_refusal(tx, payout, answers.refused[payout.request_key], now)


async def _name_transactions(tx: Tx, created: Sequence[Payout], now: datetime) -> None:
    """Says on what is paid which transaction pays it."""
    by_allocation = {payout.allocation_id: payout for payout in created if payout.allocation_id is not None}
    if by_allocation:
        changes = [
            (each, _name_transaction(each, by_allocation[each.allocation_id]))
            for each in await lock_allocations(tx, by_allocation)
        ]
        distribution = await DISTRIBUTIONS.lock_known(tx, changes[0][0].distribution_id)
        event = events.DistributionPayoutsCreated()
        await save_distribution(tx, distribution, distribution, event, now, changes)
    for payout in created:
        if payout.type is PayoutType.ESCROW_WITHDRAWAL:
            offering = await lock_offering(tx, payout.offering_id)
            named = replace(offering, proceeds_transaction_id=payout.transaction_id)
            await save_offering(tx, offering, named, events.OfferingUpdated(), now)


def _name_transaction(allocation: Allocation, payout: Payout) -> Allocation:
    return replace(count_set_off(allocation, payout.amount_minor), transaction_id=payout.transaction_id)


def _to_item(payout: Payout) -> payouts_pb2.BatchCreatePayoutsRequest.Item:
    return payouts_pb2.BatchCreatePayoutsRequest.Item(
        idempotency_key=payout.request_key,
        type=payout.type.value,
        amount=money_pb2.Money(currency_code=payout.currency, amount_minor=payout.amount_minor),
        escrow_account_id=payout.escrow_account_id,
        party_id=payout.party_id,
        bank_account_id=payout.bank_account_id,
        payment_method=payout.payment_method,
        investment_id=payout.investment_id,
        distribution_id=payout.distribution_id,
        allocation_id=payout.allocation_id,
        description=DESCRIPTIONS[payout.type],
    )
