"""The first step of a closing: escrow releases every subscription to the issuer, or none."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

from realco.distributions.v1 import events_pb2 as events
from realco.escrow.v1 import postings_pb2

from services.chassis.calls.wire import to_money
from services.chassis.data.database import Database
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import make_failure
from services.chassis.values.money import Money
from services.distributions.commands.movements import order_movement
from services.distributions.commands.raises import refunds
from services.distributions.commands.raises.contributions import add_up
from services.distributions.dependencies import Dependencies
from services.distributions.domain.closing import sum_released
from services.distributions.domain.investment import Investment, share_shortfalls
from services.distributions.domain.offering import Offering
from services.distributions.domain.payout import build_proceeds_payout
from services.distributions.domain.states import InvestmentStatus, OfferingStatus
from services.distributions.store.approvals import CLOSE_OFFERING, read_closing_hash
from services.distributions.store.counted_journals import check_counted
from services.distributions.store.investments import lock_investments_of, save_investments
from services.distributions.store.offerings import lock_offering, save_offering
from services.distributions.store.payouts import PAYOUTS
from services.distributions.store.sagas import Overtaken, Saga, continue_saga, finish_saga


async def release_subscriptions(saga: Saga, dependencies: Dependencies) -> bool:
    """False where the offering is not in the closing of this saga: there is nothing to release, or not any more.

    Raises DomainError where the outcome is unknown: the same release is asked for again.
    """
    database = dependencies.database
    async with database.begin() as tx:
        offering = await lock_offering(tx, saga.subject_id)
        if not _is_closed_by(saga, offering):
            return False
        await check_counted(tx, offering.escrow_account_id)
        request = await _build_request(tx, offering)
    peers = dependencies.peers
    ordering = peers.escrow.release_subscriptions(request)
    refusal = await order_movement(peers.compliance, ordering, CLOSE_OFFERING, saga.subject_id)
    now = dependencies.clock.now()
    if refusal is None:
        await _record_release(database, saga, now)
    else:
        await _record_refusal(database, saga, refusal, now)
    return True


def _is_closed_by(saga: Saga, offering: Offering) -> bool:
    """An earlier closing that escrow refused has a saga too, and was asked for by somebody else."""
    return offering.status is OfferingStatus.CLOSING and offering.closing_saga_id == saga.saga_id


async def _lock_closing(tx: Tx, saga: Saga) -> Offering:
    """The offering, still in the closing of this saga. Raises: Overtaken: somebody else recorded how it ended."""
    offering = await lock_offering(tx, saga.subject_id)
    if not _is_closed_by(saga, offering):
        raise Overtaken(saga.saga_id)
    return offering


async def _build_request(tx: Tx, offering: Offering) -> postings_pb2.ReleaseSubscriptionsRequest:
    """What escrow is asked: the same request every time, because the closing fixed it."""
    offering_id = offering.offering_id
    # A service that was granted the closing shows no decision of two persons, and escrow refuses it.
    released = sum_released(await lock_investments_of(tx, offering_id))
    return postings_pb2.ReleaseSubscriptionsRequest(
        idempotency_key=await read_closing_hash(tx, offering),
        escrow_account_id=offering.escrow_account_id,
        offering_id=offering_id,
        subscriptions=[
            postings_pb2.PartyAmount(party_id=party_id, amount=to_money(Money(amount_minor, offering.currency)))
            for party_id, amount_minor in sorted(released.items())
        ],
    )


async def _record_release(database: Database, saga: Saga, now: datetime) -> None:
    """Escrow released every subscription: the investments are active from today, and the proceeds are due."""
    async with database.begin() as tx:
        await continue_saga(tx, saga)
        offering = await _lock_closing(tx, saga)
        closed = replace(offering, status=OfferingStatus.CLOSED, closing_date=now.date())
        offering = await save_offering(tx, offering, closed, events.OfferingClosed(), now)
        active = await _activate_investments(tx, offering.offering_id, now.date(), now)
        released_minor = sum(each.released_minor for each in active)
        await PAYOUTS.insert_all(tx, [build_proceeds_payout(offering, released_minor, 1, saga.saga_id, now)])
        # Commitments that nothing was paid on have missed the closing.
        offering = await refunds.cancel_all(tx, offering, now)
        await refunds.pay_due_refunds(tx, offering, now)


async def _activate_investments(tx: Tx, offering_id: str, closing_date: date, now: datetime) -> list[Investment]:
    """Makes the released investments active lots from the closing date on."""
    changes = [
        (
            each,
            replace(
                each, status=InvestmentStatus.ACTIVE, accrual_start_date=closing_date, accrued_through=closing_date
            ),
        )
        for each in await lock_investments_of(tx, offering_id)
        if each.status is InvestmentStatus.PENDING and each.released_minor > 0
    ]
    return await save_investments(tx, changes, events.InvestmentActivated, now)


async def _record_refusal(database: Database, saga: Saga, refusal: DomainError, now: datetime) -> None:
    """Escrow refused, so no money moved: the offering is open again, and says why."""
    log.warning("closing_refused", offering_id=saga.subject_id, reason=refusal.reason)
    async with database.begin() as tx:
        await finish_saga(tx, saga)
        offering = await _lock_closing(tx, saga)
        held = await lock_investments_of(tx, offering.offering_id)
        # The bank may have taken back meanwhile what the closing was to take.
        left = share_shortfalls([replace(each, released_minor=0, unreturned_minor=0) for each in held])
        changes = list(zip(held, left, strict=True))
        failure = make_failure(refusal)
        reopened = replace(add_up(offering, changes), status=OfferingStatus.OPEN, closing_failure=failure)
        offering = await save_offering(tx, offering, reopened, events.OfferingUpdated(), now)
        await save_investments(tx, changes, events.InvestmentUpdated, now)
        await refunds.pay_due_refunds(tx, offering, now)
