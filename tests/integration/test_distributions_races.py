"""Two who act at once, and those who ask for what is not theirs: one effect, and no hint."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.message import Message
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb

from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError
from services.distributions.store.investments import lock_investment_rows
from tests.support.distributions import CLOSING, DistributionsHarness
from tests.support.money import usd
from tests.support.peers.transactions import fail_payout

_Status = dpb.Distribution.Status


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def at_once(*calls: Awaitable[Any]) -> Counter[str]:
    """How each call ended: with a status, or with the reason of its refusal."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Message | DomainError) for answer in answers), answers
    return Counter(answer.reason if isinstance(answer, DomainError) else "answered" for answer in answers)


def leaving(service: DistributionsHarness, distribution: dpb.Distribution) -> Sequence[Awaitable[dpb.Distribution]]:
    """An execution, a cancellation and a rejection of an approved distribution: one of them may be."""
    known = distribution.distribution_id
    rejection = dpb.RejectDistributionRequest(distribution_id=known, note="no", etag=distribution.etag)
    return (
        service.execute(distribution),
        service.call(service.distributions.CancelDistribution, dpb.CancelDistributionRequest(distribution_id=known)),
        service.call(service.distributions.RejectDistribution, rejection, "admin-2"),
    )


@pytest.mark.parametrize("first", range(3))
async def test_of_execution_cancellation_and_rejection_at_once_the_money_follows_the_one_that_won(
    service: DistributionsHarness, first: int
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    approved = await service.approved(offering, 10_000_00)
    calls = leaving(service, approved)
    ended = await at_once(*calls[first:], *calls[:first])
    await service.work()
    status = (await service.get(approved)).status
    declared = service.escrow.book[offering.escrow_account_id, "payable:inv-001"]
    assert (status, declared) in ((_Status.PROCESSING, 10_000_00), (_Status.DRAFT, 0), (_Status.CANCELLED, 0))
    # Only a distribution that was rejected first can be cancelled after; nothing follows an execution.
    assert ended["answered"] == 1 or (ended["answered"], status) == (2, _Status.CANCELLED)


async def test_an_execution_asked_for_many_times_at_once_happens_once(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 50_000_00)
    approved = await service.approved(offering, 10_000_00)
    request = dpb.ExecuteDistributionRequest(idempotency_key="k-1", distribution_id=approved.distribution_id)
    execute = service.distributions.ExecuteDistribution
    ended = await at_once(
        *(service.call(execute, request) for _ in range(4)), *(service.execute(approved) for _ in "ab")
    )
    # The one that is executed may be that of the shared key, whose repetitions have its answer, or one of the others.
    assert ended["answered"] >= 1
    assert set(ended) <= {"answered", "ILLEGAL_STATUS_CHANGE", "REQUEST_IN_FLIGHT"}
    await asyncio.gather(*(service.work() for _ in range(3)))
    assert len(await service.told(events.DistributionDeclared)) == 1
    assert service.escrow.book[offering.escrow_account_id, "distributable"] == 40_000_00
    assert len(service.transactions.by_key) == 2  # the proceeds, and the one payout


async def test_two_approved_distributions_executed_at_once_are_declared_one_at_a_time(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 30_000_00)
    both = [await service.approved(offering, minor) for minor in (10_000_00, 20_000_00)]
    assert await at_once(*map(service.execute, both)) == {"answered": 1, "DISTRIBUTION_IN_PROGRESS": 1}
    await service.work()
    assert {(await service.get(each)).status for each in both} == {_Status.PROCESSING, _Status.APPROVED}


async def test_a_calculation_waits_for_nobody_who_has_locked_an_investment(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    draft = await service.draft(offering, 5_000_00)
    with service.as_("admin-1"):
        async with service.database.begin() as tx:
            await lock_investment_rows(tx, offering.offering_id)
            assert (await service.calculate(draft)).allocation_count == 1


async def test_a_failed_payout_resent_by_two_at_once_is_sent_once_each_time(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    distribution = await service.executed(offering, 10_000_00)
    for attempt in (2, 3):
        await service.deliver(fail_payout(service.transactions.newest("inv-001")))
        owed = (await service.allocations(distribution))["inv-001"]
        resend, request = service.distributions.ResendAllocation, dpb.ResendAllocationRequest
        where = {"distribution_id": distribution.distribution_id, "allocation_id": owed.allocation_id}
        ended = await at_once(*(service.call(resend, request(**where)) for _ in range(3)))
        assert ended == {"answered": 1, "ILLEGAL_STATUS_CHANGE": 2}
        await asyncio.gather(*(service.work() for _ in range(2)))
        assert (await service.allocations(distribution))["inv-001"].attempts == attempt
        assert len(service.transactions.by_key) == 1 + attempt  # and the proceeds


async def test_of_closings_and_a_refund_at_once_the_money_goes_one_way(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 100_00)
    service.clock.set(CLOSING)
    refund = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    ended = await at_once(
        service.close(offering), service.call(service.offerings.RefundOffering, refund), service.close(offering)
    )
    assert ended == {"answered": 1, "ILLEGAL_STATUS_CHANGE": 2}
    await service.work()
    status = (await service.get(offering)).status
    released = service.escrow.book[offering.escrow_account_id, "issuer_proceeds"]
    assert (status, released) in ((opb.Offering.CLOSED, 100_00), (opb.Offering.REFUNDING, 0))
    assert [payout.amount for payout in service.transactions.by_key.values()] == [usd(100_00)]


REST_PATHS = {
    method.input_type.name: str(getattr(route, route.WhichOneof("pattern")))
    for file in (opb, dpb)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    for route in [method.GetOptions().Extensions[annotations_pb2.http]]
}


def naming(
    service: DistributionsHarness, offering: str, investment: str, distribution: str, allocation: str
) -> Iterator[Any]:
    """Every call that names a thing, and its request."""
    o, i, d = service.offerings, service.investments, service.distributions
    yield o.GetOffering, opb.GetOfferingRequest(offering_id=offering)
    yield o.UpdateOffering, opb.UpdateOfferingRequest(offering_id=offering, display_name="mine", etag="0")
    yield o.GetClosingGates, opb.GetClosingGatesRequest(offering_id=offering)
    yield o.CloseOffering, opb.CloseOfferingRequest(offering_id=offering)
    yield o.RefundOffering, opb.RefundOfferingRequest(offering_id=offering, note="mine")
    yield o.ResendProceeds, opb.ResendProceedsRequest(offering_id=offering)
    yield (
        i.CreateInvestment,
        opb.CreateInvestmentRequest(offering_id=offering, party_id="inv-9", amount=usd(1)),
    )
    yield i.GetInvestment, opb.GetInvestmentRequest(investment_id=investment)
    yield i.CancelInvestment, opb.CancelInvestmentRequest(investment_id=investment)
    yield i.ResendRefund, opb.ResendRefundRequest(investment_id=investment)
    yield d.CreateDistribution, dpb.CreateDistributionRequest(offering_id=offering, type=1, amount=usd(1))
    yield d.GetAllocation, dpb.GetAllocationRequest(distribution_id=distribution, allocation_id=allocation)
    yield d.ResendAllocation, dpb.ResendAllocationRequest(distribution_id=distribution, allocation_id=allocation)
    yield (
        d.ApproveDistribution,
        dpb.ApproveDistributionRequest(distribution_id=distribution, content_hash="0" * 64, etag="0"),
    )
    yield d.RejectDistribution, dpb.RejectDistributionRequest(distribution_id=distribution, note="mine", etag="0")
    for call, request in (
        (d.GetDistribution, dpb.GetDistributionRequest),
        (d.ListAllocations, dpb.ListAllocationsRequest),
        (d.CalculateDistribution, dpb.CalculateDistributionRequest),
        (d.SubmitDistribution, dpb.SubmitDistributionRequest),
        (d.ExecuteDistribution, dpb.ExecuteDistributionRequest),
        (d.CancelDistribution, dpb.CancelDistributionRequest),
    ):
        yield call, request(distribution_id=distribution)


async def test_what_belongs_to_another_organization_looks_like_what_is_not_there(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    held = (await service.positions(offering))["inv-001"]
    distribution = await service.executed(offering, 10_000_00)
    await service.deliver(fail_payout(service.transactions.newest("inv-001")))
    owed = (await service.allocations(distribution))["inv-001"]
    theirs = (offering.offering_id, held.investment_id, distribution.distribution_id, owed.allocation_id)
    nobodys = tuple(f"{known.split('_')[0]}_{'0' * 26}" for known in theirs)

    async def answer(call: Any, request: Message) -> tuple[object, ...]:
        with pytest.raises(DomainError) as refusal:
            await service.call(call, request, "admin-9", "admin", "org-2")
        refused = refusal.value
        # What the path of a REST call names is no fault of a field; what a body or a filter names is.
        in_path = "{" in REST_PATHS[request.DESCRIPTOR.name]
        assert list(refused.fields) == ([] if in_path else ["offering_id"])
        return refused.kind.name, refused.reason, refused.message, dict(refused.metadata), dict(refused.fields)

    asked = [
        (await answer(*a), await answer(*b))
        for a, b in zip(naming(service, *theirs), naming(service, *nobodys), strict=True)
    ]
    assert len(asked) == 21
    for foreign, unknown in asked:
        assert foreign == unknown
        assert foreign[0] == "NOT_FOUND"


async def test_a_page_token_serves_its_own_query_and_organization_alone(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    for number in range(3):
        await service.invest(offering, f"inv-{number}", 1_00, fund=False)
    listing = service.investments.ListInvestments
    token = (await service.call(listing, opb.ListInvestmentsRequest(page_size=1))).next_page_token
    wrong = opb.ListInvestmentsRequest(page_size=1, page_token=token, offering_id=[offering.offering_id])
    damaged = opb.ListInvestmentsRequest(page_size=1, page_token=token[:-2])
    right = opb.ListInvestmentsRequest(page_size=2, page_token=token)
    for request, org in ((wrong, "org-1"), (damaged, "org-1"), (right, "org-2")):
        with pytest.raises(DomainError) as refusal:
            await service.call(listing, request, "admin-1", "admin", org)
        assert refusal.value.reason == "PAGE_TOKEN_INVALID"
    assert len((await service.call(listing, right)).investments) == 2
