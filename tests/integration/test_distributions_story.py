"""The main story of distributions: raise, close, waterfall, approval, payout; to the cent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date

import pytest
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb
from realco.distributions.v1 import payout_orders_pb2
from realco.escrow.v1 import escrow_accounts_pb2

from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError
from services.chassis.values.refusals import IllegalStatusChange
from tests.support.distributions import DistributionsHarness
from tests.support.peers.transactions import complete_payout, fail_payout, return_payout

CASE_01 = (("inv-001", 100_000_00), ("inv-002", 55_555_55), ("inv-003", 44_444_45))


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def test_case_01_is_paid_to_the_cent_and_every_step_is_on_record(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(*CASE_01)
    assert (offering.status, offering.closing_date.year) == (opb.Offering.CLOSED, 2025)
    assert service.escrow.book[offering.escrow_account_id, "issuer_proceeds"] == 200_000_00
    assert offering.proceeds_transaction_id == service.transactions.newest("sponsor-1").transaction_id
    service.deposit(offering, 260_000_00)
    drafted = await service.draft(offering, 260_000_00)
    calculated = await service.calculate(drafted)
    assert [
        (opb.WaterfallTerms.Kind.Name(t.kind), t.investors_amount.amount_minor, t.sponsor_amount.amount_minor)
        for t in calculated.tier_totals
    ] == [
        ("RETURN_OF_CAPITAL", 200_000_00, 0),
        ("PREFERRED_RETURN", 16_000_00, 0),
        ("CATCH_UP", 0, 6_857_14),
        ("SPLIT", 26_000_00, 11_142_86),
    ]
    assert all(tier.explanation.statement for tier in calculated.tier_totals)
    totals = {payee: line.amount.amount_minor for payee, line in (await service.allocations(calculated)).items()}
    assert totals == {"inv-001": 121_000_00, "inv-002": 67_222_21, "inv-003": 53_777_79, "sponsor-1": 18_000_00}
    await service.execute(await service.approve(await service.submit(calculated)))
    await service.work()
    assert (await service.get(drafted)).status == dpb.Distribution.PROCESSING
    assert service.escrow.book[offering.escrow_account_id, "distributable"] == 0
    assert {payee: service.escrow.book[offering.escrow_account_id, f"payable:{payee}"] for payee in totals} == totals
    await service.pay(drafted)
    done = await service.get(drafted)
    assert (done.status, done.paid_amount.amount_minor) == (dpb.Distribution.COMPLETED, 260_000_00)
    positions = await service.positions(offering)
    assert {i: p.distributed_amount.amount_minor for i, p in positions.items()} == {
        payee: total for payee, total in totals.items() if payee != "sponsor-1"
    }
    assert all(position.unreturned_capital.amount_minor == 0 for position in positions.values())
    for event, times in (
        (events.DistributionDeclared, 1),
        (events.AllocationCompleted, 4),
        (events.DistributionCompleted, 1),
    ):
        assert len(await service.told(event)) == times


async def test_a_second_distribution_begins_where_the_first_one_left_the_offering(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    await service.executed(offering, 50_000_00, date(2026, 1, 1))
    assert (await service.positions(offering))["inv-001"].unreturned_capital.amount_minor == 50_000_00
    second = await service.calculate(await service.draft(offering, 60_000_00, date(2027, 1, 1)))
    # 8 % on 100,000.00 for a year, then on 50,000.00 for a year; the first year's is still owed.
    paid = {
        opb.WaterfallTerms.Kind.Name(t.kind): t.investors_amount.amount_minor + t.sponsor_amount.amount_minor
        for t in second.tier_totals
    }
    assert paid == {"RETURN_OF_CAPITAL": 50_000_00, "PREFERRED_RETURN": 10_000_00, "CATCH_UP": 0, "SPLIT": 0}


@pytest.mark.parametrize(
    ("creator", "calculator", "submitter", "approver", "verdict"),
    [
        ("admin-1", "admin-1", "admin-1", "admin-1", "MAKER_IS_CHECKER"),
        ("admin-1", "admin-2", "admin-2", "admin-1", "MAKER_IS_CHECKER"),
        ("admin-2", "admin-1", "admin-2", "admin-1", "MAKER_IS_CHECKER"),
        ("admin-2", "admin-2", "admin-1", "admin-1", "MAKER_IS_CHECKER"),
        ("admin-2", "admin-3", "admin-4", "admin-1", "APPROVED"),
    ],
)
async def test_whoever_made_it_does_not_approve_it(
    service: DistributionsHarness, creator: str, calculator: str, submitter: str, approver: str, verdict: str
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    request = dpb.CreateDistributionRequest(offering_id=offering.offering_id, type=dpb.Distribution.SPECIAL)
    request.amount.currency_code, request.amount.amount_minor = "USD", 10_000_00
    service.clock.set(service.clock.now().replace(year=2026))
    drafted = await service.call(service.distributions.CreateDistribution, request, creator)
    submitted = await service.submit(await service.calculate(drafted, calculator), submitter)
    if verdict == "APPROVED":
        assert (await service.approve(submitted, approver)).approved_by == approver
        return
    with pytest.raises(DomainError) as refusal:
        await service.approve(submitted, approver)
    assert refusal.value.reason == verdict


async def test_an_approval_is_bound_to_the_content_that_was_seen(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    submitted = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)))
    with pytest.raises(DomainError) as refusal:
        await service.approve(submitted, content_hash="0" * 64)
    assert (refusal.value.reason, refusal.value.metadata) == (
        "CONTENT_CHANGED",
        {"content_hash": submitted.content_hash},
    )


async def test_nothing_is_calculated_again_after_it_was_submitted_until_it_is_sent_back(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    submitted = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)))
    with pytest.raises(IllegalStatusChange):
        await service.calculate(submitted)
    assert await service.submit(submitted) == submitted
    request = dpb.RejectDistributionRequest(
        distribution_id=submitted.distribution_id, note="wrong month", etag=submitted.etag
    )
    sent_back = await service.call(service.distributions.RejectDistribution, request, "admin-2")
    assert (sent_back.status, sent_back.HasField("submitted_by")) == (dpb.Distribution.DRAFT, False)
    assert (await service.calculate(sent_back)).content_hash == submitted.content_hash
    assert len(await service.told(events.DistributionSentBack)) == 1


async def test_a_calculation_is_stale_once_another_distribution_was_declared(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    first, second = await service.approved(offering, 10_000_00), await service.approved(offering, 20_000_00)
    service.deposit(offering, 30_000_00)
    await service.execute(first)
    with pytest.raises(DomainError) as refusal:
        await service.execute(second)
    assert refusal.value.reason == "DISTRIBUTION_IN_PROGRESS"
    await service.work()
    with pytest.raises(DomainError) as refusal:
        await service.execute(second)
    assert refusal.value.reason == "CONTENT_OUTDATED"
    request = dpb.RejectDistributionRequest(distribution_id=second.distribution_id, note="stale", etag=second.etag)
    await service.call(service.distributions.RejectDistribution, request, "admin-2")
    again = await service.calculate(second)
    await service.execute(await service.approve(await service.submit(again)))
    await service.work()
    assert (await service.get(second)).status == dpb.Distribution.PROCESSING


async def test_execution_needs_approval_and_the_cash(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    drafted = await service.calculate(await service.draft(offering, 10_000_00))
    with pytest.raises(DomainError) as refusal:
        await service.execute(drafted)
    assert (refusal.value.reason, refusal.value.metadata) == (
        "ILLEGAL_STATUS_CHANGE",
        {"status": "DRAFT", "wanted_status": "QUEUED"},
    )
    service.deposit(offering, 9_999_99)
    approved = await service.approve(await service.submit(drafted))
    with pytest.raises(DomainError) as refusal:
        await service.execute(approved)
    assert (refusal.value.reason, refusal.value.metadata) == (
        "INSUFFICIENT_DISTRIBUTABLE_CASH",
        {"available_minor": "999999", "requested_minor": "1000000", "currency_code": "USD"},
    )


async def test_a_distribution_from_a_frozen_account_stays_approved_and_is_executed_once_it_is_unfrozen(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    approved = await service.approved(offering, 10_000_00)
    account = service.escrow.accounts[offering.escrow_account_id]
    for status, reason in ((escrow_accounts_pb2.EscrowAccount.FROZEN, "ESCROW_ACCOUNT_FROZEN"), (99, "UNAVAILABLE")):
        account.status = status
        with pytest.raises(DomainError) as refusal:
            await service.execute(approved)
        assert refusal.value.reason == reason
        assert refusal.value.metadata == ({} if status == 99 else {"escrow_account_id": offering.escrow_account_id})
    assert (await service.get(approved)).status == dpb.Distribution.APPROVED
    account.status = escrow_accounts_pb2.EscrowAccount.ACTIVE
    assert (await service.execute(approved)).status == dpb.Distribution.QUEUED


async def test_what_fails_is_listed_sent_again_and_completes(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(*CASE_01)
    distribution = await service.executed(offering, 260_000_00)
    await service.pay(distribution, but=["inv-002"])
    await service.deliver(fail_payout(service.transactions.newest("inv-002"), "R03"))
    partly = await service.get(distribution)
    assert (partly.status, partly.paid_amount.amount_minor) == (dpb.Distribution.PARTIALLY_FAILED, 192_777_79)
    owed = (await service.allocations(distribution))["inv-002"]
    assert (owed.status, owed.failure.code, owed.failure.message) == (
        dpb.Allocation.FAILED,
        "DECLINED_BY_PROVIDER",
        "R03 it is",
    )
    request = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id,
        allocation_id=owed.allocation_id,
        bank_account_id=service.transactions.add_bank_account("inv-002"),
    )
    assert (await service.call(service.distributions.ResendAllocation, request)).attempts == 2
    await service.work()
    payout = service.transactions.newest("inv-002")
    assert payout.bank_account_id == request.bank_account_id
    assert (await service.get(distribution)).status == dpb.Distribution.PROCESSING
    await service.deliver(complete_payout(payout))
    done = await service.get(distribution)
    assert (done.status, done.paid_amount.amount_minor) == (dpb.Distribution.COMPLETED, 260_000_00)
    request.idempotency_key = "another"
    with pytest.raises(DomainError) as refusal:
        await service.call(service.distributions.ResendAllocation, request)
    assert (refusal.value.reason, refusal.value.metadata) == (
        "ILLEGAL_STATUS_CHANGE",
        {"status": "COMPLETED", "wanted_status": "PROCESSING"},
    )


async def test_a_payout_that_comes_back_is_owed_again(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    distribution = await service.executed(offering, 15_000_00)
    await service.pay(distribution)
    payout = service.transactions.newest("inv-002")
    await service.deliver(return_payout(payout, "R02"))
    again = await service.get(distribution)
    assert (again.status, again.paid_amount.amount_minor) == (dpb.Distribution.PARTIALLY_FAILED, 10_000_00)
    assert (await service.positions(offering))["inv-002"].distributed_amount.amount_minor == 0
    assert (await service.allocations(distribution))["inv-002"].status == dpb.Allocation.RETURNED
    for event in (events.AllocationReturned, events.DistributionPartiallyFailed):
        assert len(await service.told(event)) == 1
    assert await service.told(events.AllocationFailed) == await service.told(events.DistributionFailed) == []


async def test_a_refused_item_fails_its_allocation_alone(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    service.transactions.without_bank_account.add("inv-002")
    distribution = await service.executed(offering, 15_000_00)
    await service.pay(distribution)
    assert (await service.get(distribution)).status == dpb.Distribution.PARTIALLY_FAILED
    assert (await service.allocations(distribution))["inv-002"].failure.code == "NO_PAYOUT_BANK_ACCOUNT"


async def test_a_payout_whose_key_somebody_used_for_another_is_asked_for_again_and_has_not_failed(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    service.transactions.keys_taken.add("inv-002")
    distribution = await service.executed(offering, 15_000_00)
    seen = await service.allocations(distribution)
    assert {each.status for each in seen.values()} == {dpb.Allocation.PROCESSING}
    assert seen["inv-001"].transaction_id
    service.transactions.keys_taken.clear()
    await service.make_due()
    await service.work()
    assert (await service.allocations(distribution))["inv-002"].transaction_id


async def test_what_was_ordered_is_told_with_its_words_and_its_person_and_a_refused_order_no_more(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    service.transactions.without_bank_account.add("inv-002")
    distribution = await service.executed(offering, 15_000_00)
    keys = [f"alloc:{each.allocation_id}:1" for each in (await service.allocations(distribution)).values()]
    request = payout_orders_pb2.BatchGetPayoutOrdersRequest(idempotency_keys=keys)
    [order] = (await service.call(service.payout_orders.BatchGetPayoutOrders, request)).payout_orders
    person = service.wire.persons["BatchCreatePayouts"]
    assert (order.party_id, order.description, order.ordered_by) == ("inv-001", "Distribution", person)


async def test_a_distribution_whose_every_payout_failed_has_failed_and_can_be_sent_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    distribution = await service.executed(offering, 10_000_00)
    await service.deliver(fail_payout(service.transactions.newest("inv-001")))
    assert (await service.get(distribution)).status == dpb.Distribution.FAILED
    owed = (await service.allocations(distribution))["inv-001"]
    request = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id, allocation_id=owed.allocation_id
    )
    await service.call(service.distributions.ResendAllocation, request)
    await service.work()
    await service.deliver(complete_payout(service.transactions.newest("inv-001")))
    assert (await service.get(distribution)).status == dpb.Distribution.COMPLETED


async def test_a_distribution_is_cancelled_until_it_is_executed(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    approved = await service.approved(offering, 10_000_00)
    request = dpb.CancelDistributionRequest(distribution_id=approved.distribution_id)
    cancelled = await service.call(service.distributions.CancelDistribution, request)
    assert cancelled.status == dpb.Distribution.CANCELLED
    assert {a.status for a in (await service.allocations(approved)).values()} == {dpb.Allocation.CANCELLED}
    under_way = await service.executed(offering, 10_000_00)
    request = dpb.CancelDistributionRequest(distribution_id=under_way.distribution_id)
    with pytest.raises(IllegalStatusChange):
        await service.call(service.distributions.CancelDistribution, request)


async def test_a_sponsor_that_invests_too_is_owed_both_and_paid_both(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("sponsor-1", 100_000_00))
    distribution = await service.executed(offering, 260_000_00)
    lines = await service.call(
        service.distributions.ListAllocations,
        dpb.ListAllocationsRequest(distribution_id=distribution.distribution_id),
    )
    totals = [(line.party_id, line.payee_type, line.amount.amount_minor) for line in lines.allocations]
    assert totals == [
        ("inv-001", dpb.Allocation.INVESTOR, 121_000_00),
        ("sponsor-1", dpb.Allocation.INVESTOR, 121_000_00),
        ("sponsor-1", dpb.Allocation.SPONSOR, 18_000_00),
    ]
    assert service.escrow.book[offering.escrow_account_id, "payable:sponsor-1"] == 139_000_00
    await service.pay(distribution)
    assert (await service.get(distribution)).status == dpb.Distribution.COMPLETED


async def test_an_investor_with_two_investments_is_paid_once_and_both_show_their_part(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-001", 50_000_00), ("inv-002", 50_000_00))
    distribution = await service.executed(offering, 20_000_00)
    await service.pay(distribution)
    allocations = await service.allocations(distribution)
    assert {payee: line.amount.amount_minor for payee, line in allocations.items()} == {
        "inv-001": 15_000_00,
        "inv-002": 5_000_00,
    }
    held = await service.call(
        service.investments.ListInvestments,
        opb.ListInvestmentsRequest(offering_id=[offering.offering_id], party_id=["inv-001"]),
    )
    assert sorted(part.distributed_amount.amount_minor for part in held.investments) == [5_000_00, 10_000_00]
