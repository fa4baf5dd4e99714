"""What can be read, by whom, and how lists are narrowed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.message import Message
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.values.errors import DomainError
from tests.support.distributions import CLOSING, OF_AN_OPEN_ONE, ORG, START, DistributionsHarness
from tests.support.money import usd
from tests.support.peers.transactions import fail_payout


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def test_an_investor_sees_the_distributions_that_pay_its_parties_tier_by_tier_and_nothing_of_others(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    read, lists = service.distributions.GetDistribution, service.distributions.ListDistributions
    approved = await service.approved(offering, 180_000_00)
    known = {"distribution_id": approved.distribution_id}

    async def refusal_of(call: Any, request: Any, person: str) -> str:
        with pytest.raises(DomainError) as refusal:
            await service.call(call, request, person, "investor")
        return refusal.value.reason

    # Until it is declared it may still change, and is nobody's.
    assert await refusal_of(read, dpb.GetDistributionRequest(**known), "inv-001") == "DISTRIBUTION_NOT_FOUND"
    service.deposit(offering, 180_000_00)
    await service.execute(approved)
    await service.work()

    seen = await service.call(read, dpb.GetDistributionRequest(**known), "inv-001", "investor")
    assert (seen.amount, seen.status) == (usd(180_000_00), dpb.Distribution.PROCESSING)
    hidden = ("content_hash", "allocation_count", "paid_amount", "failure", "created_by", "approved_by")
    assert [name for name in hidden if seen.HasField(name)] == []
    assert (list(seen.tier_totals), list(seen.allowed_actions)) == ([], [])
    listed = await service.call(lists, dpb.ListDistributionsRequest(), "inv-002", "investor")
    assert [each.distribution_id for each in listed.distributions] == [approved.distribution_id]
    nothing = await service.call(lists, dpb.ListDistributionsRequest(), "inv-009", "investor")
    assert not nothing.distributions

    mine = await service.call(
        service.distributions.ListAllocations, dpb.ListAllocationsRequest(**known), "inv-002", "investor"
    )
    assert [each.party_id for each in mine.allocations] == ["inv-002"]
    [allocation] = mine.allocations
    kinds = [opb.WaterfallTerms.Kind.Name(line.kind) for line in allocation.lines]
    assert kinds == ["RETURN_OF_CAPITAL", "PREFERRED_RETURN", "SPLIT"], "a full catch-up pays investors nothing"
    assert sum(line.amount.amount_minor for line in allocation.lines) == allocation.amount.amount_minor
    assert allocation.lines[0].explanation.statement == (
        "50,000.00 USD, in proportion to unreturned capital: 50,000.00 USD, 33.33 % of all investors'."
    )
    one = dpb.GetAllocationRequest(**known, allocation_id=allocation.allocation_id)
    got = await service.call(service.distributions.GetAllocation, one, "inv-002", "investor")
    assert got == allocation
    assert await refusal_of(service.distributions.GetAllocation, one, "inv-001") == "ALLOCATION_NOT_FOUND"
    assert await refusal_of(service.distributions.GetAllocation, one, "inv-009") == "DISTRIBUTION_NOT_FOUND"


async def test_an_investor_sees_nothing_that_staff_note_on_an_offering_for_themselves(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00, external_id="deal-7")
    note = opb.UpdateOfferingRequest(
        offering_id=offering.offering_id,
        etag=offering.etag,
        update_mask={"paths": ["metadata"]},
        metadata={"watch": "this sponsor"},
    )
    noted = await service.call(service.offerings.UpdateOffering, note)
    assert (noted.external_id, dict(noted.metadata), noted.HasField("created_by")) == (
        "deal-7",
        {"watch": "this sponsor"},
        True,
    )
    read = opb.GetOfferingRequest(offering_id=offering.offering_id)
    got = await service.call(service.offerings.GetOffering, read, "inv-001", "investor")
    listed = await service.call(service.offerings.ListOfferings, opb.ListOfferingsRequest(), "inv-001", "investor")
    for seen in (got, *listed.offerings):
        assert seen.offering_id == offering.offering_id
        assert not seen.HasField("external_id")
        assert not seen.HasField("created_by")
        assert not seen.metadata


async def test_what_a_caller_may_do_is_what_would_not_be_refused(service: DistributionsHarness) -> None:
    offering = await service.offering(100_000_00)
    assert list((await service.get(offering)).allowed_actions) == OF_AN_OPEN_ONE
    read = opb.GetOfferingRequest(offering_id=offering.offering_id)
    for person, role, actions in (("inv-001", "investor", ["create_investment"]), ("auditor-1", "auditor", [])):
        seen = await service.call(service.offerings.GetOffering, read, person, role)
        assert list(seen.allowed_actions) == actions
    held = await service.invest(offering, "inv-001", 100_000_00)
    assert list((await service.get(held)).allowed_actions) == ["cancel"]
    service.clock.set(CLOSING)
    await service.close(offering)
    assert list((await service.get(held)).allowed_actions) == []
    await service.work()
    assert list((await service.get(offering)).allowed_actions) == [
        "update",
        "change_receivables_policy",
        "create_distribution",
    ]

    drafted = await service.draft(offering, 10_000_00)
    assert list((await service.get(drafted)).allowed_actions) == ["calculate", "cancel"]
    submitted = await service.submit(await service.calculate(drafted))
    assert list((await service.get(drafted)).allowed_actions) == ["cancel"], "its maker decides nothing about it"
    another = dpb.GetDistributionRequest(distribution_id=drafted.distribution_id)
    seen = await service.call(service.distributions.GetDistribution, another, "admin-2")
    assert list(seen.allowed_actions) == ["approve", "reject", "cancel"]
    await service.approve(submitted)
    assert list((await service.get(drafted)).allowed_actions) == ["execute", "cancel"]
    service.deposit(offering, 10_000_00)
    await service.execute(drafted)
    await service.work()
    assert list((await service.get(drafted)).allowed_actions) == []
    await service.deliver(fail_payout(service.transactions.newest("inv-001")))
    [owed] = (await service.allocations(drafted)).values()
    one = dpb.GetAllocationRequest(distribution_id=drafted.distribution_id, allocation_id=owed.allocation_id)
    assert list((await service.call(service.distributions.GetAllocation, one)).allowed_actions) == ["resend"]


async def test_lists_are_narrowed_by_ids_external_id_time_and_party_and_sorted_either_way(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00, external_id="deal-7")
    made = []
    for number in range(3):
        request = opb.CreateInvestmentRequest(
            offering_id=offering.offering_id, party_id=f"inv-{number}", amount=usd(1_00), external_id=f"sub-{number}"
        )
        request.metadata["channel"] = "web"
        made.append(await service.call(service.investments.CreateInvestment, request))
        service.clock.advance(timedelta(days=1))
    ids = [each.investment_id for each in made]
    assert (made[0].external_id, dict(made[0].metadata)) == ("sub-0", {"channel": "web"})

    async def found(**filters: Any) -> list[str]:
        answer = await service.call(service.investments.ListInvestments, opb.ListInvestmentsRequest(**filters))
        return [each.investment_id for each in answer.investments]

    assert await found() == ids[::-1]
    assert await found(order=Sort.OLDEST_FIRST) == ids
    assert await found(ids=[ids[0], ids[2]]) == [ids[2], ids[0]]
    assert await found(external_id=["sub-1", "sub-2"]) == [ids[2], ids[1]]
    assert await found(party_id=["inv-2"]) == [ids[2]]
    day = [to_timestamp(START + timedelta(days=n)) for n in range(3)]
    assert await found(from_time=day[1]) == [ids[2], ids[1]]
    assert await found(from_time=day[0], to_time=day[1]) == [ids[0]]
    answer = await service.call(service.offerings.ListOfferings, opb.ListOfferingsRequest(external_id=["deal-7"]))
    assert [each.offering_id for each in answer.offerings] == [offering.offering_id]


async def test_each_list_can_be_asked_for_any_of_several_statuses(service: DistributionsHarness) -> None:
    opened = await service.offering(100_00)
    await service.invest(opened, "inv-001", 100_00, fund=False)
    closed = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 100_000_00))
    distribution = await service.executed(closed, 40_000_00)
    await service.pay(distribution, but=["inv-002"])
    await service.deliver(fail_payout(service.transactions.newest("inv-002")))
    await service.draft(closed, 10_00)

    async def count(listing: Any, request: type[Message], *statuses: int, **filters: Any) -> int:
        answer = await service.call(listing, request(status=statuses, **filters))
        return len(answer.ListFields()[0][1]) if answer.ListFields() else 0

    offerings, investments = service.offerings.ListOfferings, service.investments.ListInvestments
    distributions, allocations = service.distributions.ListDistributions, service.distributions.ListAllocations
    offering, investment, whole, part = opb.Offering, opb.Investment, dpb.Distribution, dpb.Allocation
    assert await count(offerings, opb.ListOfferingsRequest, offering.OPEN) == 1
    assert await count(offerings, opb.ListOfferingsRequest, offering.OPEN, offering.CLOSED, offering.REFUNDED) == 2
    assert await count(investments, opb.ListInvestmentsRequest, investment.ACTIVE) == 2
    assert await count(investments, opb.ListInvestmentsRequest, investment.ACTIVE, investment.PENDING) == 3
    assert await count(distributions, dpb.ListDistributionsRequest, whole.DRAFT) == 1
    assert await count(distributions, dpb.ListDistributionsRequest, whole.DRAFT, whole.PARTIALLY_FAILED) == 2
    of = {"distribution_id": distribution.distribution_id}
    assert await count(allocations, dpb.ListAllocationsRequest, part.FAILED, **of) == 1
    assert await count(allocations, dpb.ListAllocationsRequest, part.FAILED, part.COMPLETED, **of) == 2


async def test_a_list_is_walked_back_as_it_was_walked_forth(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(*((f"inv-{n}", 10_000_00) for n in range(3)))
    distribution = await service.calculate(await service.draft(offering, 50_000_00))
    request = dpb.ListAllocationsRequest(distribution_id=distribution.distribution_id, page_size=2)
    first = await service.call(service.distributions.ListAllocations, request)
    request.page_token = first.next_page_token
    second = await service.call(service.distributions.ListAllocations, request)
    assert [each.party_id for page in (first, second) for each in page.allocations] == [
        "inv-0",
        "inv-1",
        "inv-2",
        "sponsor-1",
    ]
    request.page_token = second.previous_page_token
    assert (await service.call(service.distributions.ListAllocations, request)).allocations == first.allocations


async def test_what_is_only_validated_changes_nothing_and_leaves_the_key_free(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    request = opb.CreateInvestmentRequest(
        idempotency_key="k-1",
        offering_id=offering.offering_id,
        party_id="inv-001",
        amount=usd(60_00),
        validate_only=True,
    )
    assert (await service.call(service.investments.CreateInvestment, request)).amount == usd(60_00)
    assert (await service.get(offering)).committed_amount == usd(0)
    request.validate_only = False
    await service.call(service.investments.CreateInvestment, request)
    assert (await service.get(offering)).committed_amount == usd(60_00)


async def test_a_decision_on_what_was_read_before_a_change_is_refused(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    submitted = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)))
    known = {"distribution_id": submitted.distribution_id}
    rejection = dpb.RejectDistributionRequest(**known, note="no", etag=submitted.etag)
    await service.call(service.distributions.RejectDistribution, rejection, "admin-2")
    again = await service.submit(submitted)
    assert (again.content_hash, again.etag == submitted.etag) == (submitted.content_hash, False)
    with pytest.raises(DomainError) as refusal:
        await service.approve(submitted)
    assert (refusal.value.reason, refusal.value.metadata) == ("ETAG_MISMATCH", {"etag": again.etag})
    assert (await service.approve(again)).status == dpb.Distribution.APPROVED


@pytest.mark.parametrize(
    "change",
    [
        {
            "terms": opb.WaterfallTerms(
                tiers=[
                    opb.WaterfallTerms.Tier(return_of_capital={}),
                    opb.WaterfallTerms.Tier(preferred_return={"rate": "0.05"}),
                    opb.WaterfallTerms.Tier(split={"sponsor_share": "0.30"}),
                ]
            )
        },
        {"deadline_time": to_timestamp(START + timedelta(days=60))},
        {"display_name": "Oak Street II"},
    ],
    ids=["terms", "deadline", "name"],
)
async def test_an_investor_commits_to_what_was_read_or_not_at_all(
    service: DistributionsHarness, change: dict[str, Any]
) -> None:
    read = await service.offering(100_00)
    request = opb.UpdateOfferingRequest(offering_id=read.offering_id, etag=read.etag, **change)
    request.update_mask.paths.extend(change)
    changed = await service.call(service.offerings.UpdateOffering, request)
    with pytest.raises(DomainError) as refusal:
        await service.invest(read, "inv-001", 60_00)
    assert (refusal.value.reason, refusal.value.metadata) == ("ETAG_MISMATCH", {"etag": changed.terms_etag})
    assert list(refusal.value.fields) == ["terms_etag"]
    noted = opb.UpdateOfferingRequest(
        offering_id=read.offering_id, etag=changed.etag, external_id="crm-7", metadata={"desk": "east"}
    )
    noted.update_mask.paths.extend(["external_id", "metadata"])
    await service.call(service.offerings.UpdateOffering, noted)  # nobody agrees to what staff note
    await service.invest(changed, "inv-001", 60_00)
    await service.invest(changed, "inv-002", 40_00)  # money that came in changes nothing that was agreed to


async def test_a_row_that_no_code_can_read_hides_none_of_the_others(service: DistributionsHarness) -> None:
    """PostgreSQL refuses what it knows to be none of ours; what a kind of tier needs it does not know."""
    altered, other = await service.offering(), await service.offering()
    alter = "UPDATE offerings SET tiers = '[[\"nope\", {}]]', version = version + 1 WHERE offering_id = $1"
    async with service.database.begin_for_all() as tx:
        await tx.driver.execute(alter, altered.offering_id)
    request = opb.ListOfferingsRequest()
    listed = (await service.call(service.offerings.ListOfferings, request)).offerings
    assert [each.offering_id for each in listed] == [other.offering_id]
    with pytest.raises(NotSealed):
        await service.get(altered)


async def test_a_row_that_sql_made_larger_than_a_page_may_be_hides_none_of_the_others(
    service: DistributionsHarness,
) -> None:
    altered, other = await service.offering(), await service.offering()
    async with service.database.begin_for_all() as tx:
        enlarge = "display_name = repeat('x', 30000), version = version + 1"
        await tx.driver.execute(f"UPDATE offerings SET {enlarge} WHERE offering_id = $1", altered.offering_id)
    listed = (await service.call(service.offerings.ListOfferings, opb.ListOfferingsRequest())).offerings
    assert [each.offering_id for each in listed] == [other.offering_id]


async def test_a_service_is_told_nothing_of_an_investment_that_somebody_altered(service: DistributionsHarness) -> None:
    """It decides by it; a person who looks at a page sees the row as it stands."""
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00)
    async with service.database.begin_for_all() as tx:
        await tx.execute(sa.text("UPDATE investments SET funded_minor = 0, version = version + 1"))
    request = opb.ListInvestmentsRequest(ids=[held.investment_id])
    with acting_as(service_principal("transactions", ORG)), pytest.raises(NotSealed):
        await service.investments.ListInvestments(request, None)
    seen = await service.call(service.investments.ListInvestments, request)
    assert [each.funded_amount.amount_minor for each in seen.investments] == [0]
