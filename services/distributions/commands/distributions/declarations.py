"""The first step of an execution: escrow declares the whole distribution, and owes every payee from then on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from realco.escrow.v1 import postings_pb2

from services.chassis.calls.wire import to_money
from services.chassis.data.database import Database
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import make_failure
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money
from services.distributions.commands.distributions.calculations import run_waterfall, sum_owed
from services.distributions.commands.distributions.drafts import list_cancellations
from services.distributions.commands.movements import order_movement
from services.distributions.dependencies import Dependencies
from services.distributions.domain.distribution import Distribution, sum_by_party
from services.distributions.domain.offering import Offering
from services.distributions.domain.payout import build_allocation_payout
from services.distributions.domain.states import AllocationStatus, DistributionStatus
from services.distributions.store.allocations import lock_allocations_of, sum_by_payee
from services.distributions.store.approvals import DISTRIBUTION_APPROVALS
from services.distributions.store.counted_journals import check_counted
from services.distributions.store.distributions import lock_distribution, save_distribution
from services.distributions.store.investments import lock_investment_rows
from services.distributions.store.offerings import save_offering
from services.distributions.store.payouts import PAYOUTS
from services.distributions.store.sagas import Saga, continue_saga, finish_saga
from services.distributions.store.waterfalls import save_lots


async def declare_distribution(saga: Saga, dependencies: Dependencies) -> bool:
    """False where the distribution is not queued by this saga: there is nothing to declare, or not any more.

    Raises DomainError where the outcome is unknown: the same declaration is asked for again.
    """
    database = dependencies.database
    async with database.begin() as tx:
        offering, distribution = await lock_distribution(tx, saga.subject_id)
        if distribution.status is not DistributionStatus.QUEUED or distribution.execution_saga_id != saga.saga_id:
            return False
        await check_counted(tx, offering.escrow_account_id)
        request = await _build_request(tx, offering, distribution)
    peers = dependencies.peers
    ordering = peers.escrow.declare_distribution(request)
    refusal = await order_movement(peers.compliance, ordering, DISTRIBUTION_APPROVALS.kind, saga.subject_id)
    now = dependencies.clock.now()
    if refusal is None:
        await _record_declaration(database, saga, now)
    else:
        await _record_refusal(database, saga, refusal, now)
    return True


async def _build_request(
    tx: Tx, offering: Offering, distribution: Distribution
) -> postings_pb2.DeclareDistributionRequest:
    """What escrow is asked: the same request every time, because nothing of a queued distribution changes."""
    owed = await sum_by_payee(tx, distribution)
    return postings_pb2.DeclareDistributionRequest(
        idempotency_key=distribution.approved_hash or "",
        escrow_account_id=offering.escrow_account_id,
        distribution_id=distribution.distribution_id,
        payables=[
            postings_pb2.PartyAmount(party_id=party_id, amount=to_money(Money(amount_minor, offering.currency)))
            for party_id, amount_minor in owed.items()
        ],
    )


async def _record_declaration(database: Database, saga: Saga, now: datetime) -> None:
    """Escrow owes every payee: from here on the distribution is part of the waterfall's past."""
    async with database.begin() as tx:
        await continue_saga(tx, saga)
        offering, distribution = await lock_distribution(tx, saga.subject_id)
        # Nobody changes between two looks what is calculated from, and written after it.
        await lock_investment_rows(tx, offering.offering_id)
        # That it is what was approved was asked before escrow was: by now the money is owed. The facts are still those
        # that it was calculated on, since capital changes in no other way.
        result = await run_waterfall(tx, offering, distribution)
        allocations = await lock_allocations_of(tx, distribution.distribution_id)
        invariant(
            distribution.basis_version == offering.declarations
            and sum_owed(offering, result) == sum_by_party((each.party_id, each.amount_minor) for each in allocations),
            "what was declared is what the waterfall pays",
        )
        counted = replace(
            offering, declarations=offering.declarations + 1, declared_through=distribution.distribution_date
        )
        offering = await save_offering(tx, offering, counted, events.OfferingUpdated(), now)
        await save_lots(tx, result.after.lots, now)
        declared = replace(distribution, status=DistributionStatus.PROCESSING, declared_at=now)
        moves = [(each, replace(each, status=AllocationStatus.PROCESSING, attempts=1)) for each in allocations]
        event = events.DistributionDeclared()
        _, processing = await save_distribution(tx, distribution, declared, event, now, moves)
        payouts = [build_allocation_payout(offering, each, saga.saga_id, now) for each in processing]
        await PAYOUTS.insert_all(tx, payouts)


async def _record_refusal(database: Database, saga: Saga, refusal: DomainError, now: datetime) -> None:
    """Escrow refused, so nothing is owed: the distribution failed, and another may be drafted."""
    async with database.begin() as tx:
        await finish_saga(tx, saga)
        _, distribution = await lock_distribution(tx, saga.subject_id)
        failed = replace(distribution, status=DistributionStatus.FAILED, failure=make_failure(refusal))
        allocations = await list_cancellations(tx, distribution.distribution_id)
        await save_distribution(tx, distribution, failed, events.DistributionFailed(), now, allocations)
