"""Another attempt to pay an allocation, the proceeds or a refund, only after the last one has definitely ended.

It is made on behalf of whoever asks for it now. Where it is to go was asked of transactions before the transaction.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import distributions_pb2 as pb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.etags import check_etag
from services.chassis.values.invariant import require_present
from services.distributions.actions import answer_allocation, answer_investment, answer_offering
from services.distributions.commands.mandates import inherit_mandate
from services.distributions.commands.raises.investments import lock_reachable
from services.distributions.commands.raises.refunds import pay_due_refunds
from services.distributions.domain.destination import Destination
from services.distributions.domain.distribution import check_may_resend, find_owed_share
from services.distributions.domain.investment import check_may_resend_refund
from services.distributions.domain.offering import check_may_resend_proceeds, find_owed_proceeds, name_proceeds_account
from services.distributions.domain.payout import (
    build_allocation_payout,
    build_proceeds_payout,
    count_unpaid_proceeds,
    name_allocation_payout,
)
from services.distributions.domain.refunds import AskedAgain
from services.distributions.domain.refusals import AllocationNotFound
from services.distributions.domain.sagas import SagaKind
from services.distributions.domain.states import AllocationStatus, DistributionStatus
from services.distributions.queries.destinations import OwedFacts
from services.distributions.store.allocations import ALLOCATIONS
from services.distributions.store.approvals import RESEND_PROCEEDS, RESEND_REFUND, read_shown_minor
from services.distributions.store.counted_journals import check_counted
from services.distributions.store.distributions import lock_distribution, save_distribution
from services.distributions.store.investments import INVESTMENTS
from services.distributions.store.offerings import lock_offering, save_offering
from services.distributions.store.payouts import PAYOUTS, list_proceeds
from services.distributions.store.sagas import insert_saga


async def resend_allocation(
    tx: Tx, request: pb.ResendAllocationRequest, facts: OwedFacts, now: datetime
) -> pb.Allocation:
    destination = facts.destination
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    allocation = await ALLOCATIONS.lock(tx, request.allocation_id)
    if allocation is None or allocation.distribution_id != distribution.distribution_id:
        raise AllocationNotFound
    check_etag(request.etag, allocation.etag)
    check_may_resend(allocation)
    owed_minor = find_owed_share(allocation, facts.left_minor)
    to = request.bank_account_id or None
    destination.check(to, allocation.party_id, field="bank_account_id")
    if distribution.status is not DistributionStatus.PROCESSING:
        resumed = replace(distribution, status=DistributionStatus.PROCESSING, failure=None)
        distribution, _ = await save_distribution(tx, distribution, resumed, events.DistributionResumed(), now)
    again = replace(allocation, status=AllocationStatus.PROCESSING, attempts=allocation.attempts + 1, failure=None)
    _, moved = await save_distribution(
        tx, distribution, distribution, events.AllocationResent(), now, [(allocation, again)]
    )
    last = await PAYOUTS.find(tx, name_allocation_payout(allocation))
    last = require_present(last, "an allocation that failed was paid")
    mandate = await inherit_mandate(tx, last.saga_id)
    saga_id = await insert_saga(tx, SagaKind.RESEND, allocation.allocation_id, mandate)
    rail = destination.payment_method
    payout = build_allocation_payout(
        *(offering, moved[0], saga_id, now), amount_minor=owed_minor, bank_account_id=to, payment_method=rail
    )
    await PAYOUTS.insert_all(tx, [payout])
    return answer_allocation(moved[0])


async def resend_proceeds(
    tx: Tx, request: offerings_pb2.ResendProceedsRequest, facts: OwedFacts, now: datetime
) -> offerings_pb2.Offering:
    destination = facts.destination
    offering = await lock_offering(tx, request.offering_id)
    check_etag(request.etag, offering.etag)
    attempts = await list_proceeds(tx, offering.offering_id)
    unpaid_minor = count_unpaid_proceeds(attempts)
    check_may_resend_proceeds(offering, unpaid_minor)
    named, rail = request.bank_account_id or None, destination.payment_method
    to = named or offering.proceeds_bank_account_id if destination.pays_to_account else None
    field = "bank_account_id" if named else None
    destination.check(to, offering.sponsor_party_id, field=field)
    last = attempts[-1]
    owed_minor = find_owed_proceeds(unpaid_minor, facts.left_minor)
    shown_minor = await read_shown_minor(tx, RESEND_PROCEEDS, offering.offering_id)
    mandate = (await inherit_mandate(tx, last.saga_id)).join(offering.makers)
    saga_id = await insert_saga(tx, SagaKind.RESEND, offering.offering_id, mandate)
    again = replace(offering, proceeds_failure=None)
    if named:
        again = name_proceeds_account(again, named, current_principal().person)
    attempt = last.attempt + 1
    # No more than two persons saw, should more be there by now.
    amount_minor = min(owed_minor, shown_minor) if shown_minor else owed_minor
    payout = build_proceeds_payout(again, amount_minor, attempt, saga_id, now, payment_method=rail)
    await PAYOUTS.insert_all(tx, [payout])
    return answer_offering(await save_offering(tx, offering, again, events.OfferingUpdated(), now), now)


async def resend_refund(
    tx: Tx, request: offerings_pb2.ResendRefundRequest, destination: Destination, now: datetime
) -> offerings_pb2.Investment:
    offering, investment = await lock_reachable(tx, request.investment_id)
    check_etag(request.etag, investment.etag)
    check_may_resend_refund(investment)
    await check_counted(tx, offering.escrow_account_id)
    to = request.bank_account_id or None
    destination.check(to, investment.party_id, field="bank_account_id")
    ids = [investment.investment_id]
    shown_minor = await read_shown_minor(tx, RESEND_REFUND, investment.investment_id)
    again = AskedAgain(shown_minor, to, destination.payment_method)
    offering = await pay_due_refunds(tx, offering, now, investment_ids=ids, again=again)
    return answer_investment(offering, await INVESTMENTS.lock_known(tx, investment.investment_id), now)
