"""How long an offering may be invested in, and withdrawn from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from realco.distributions.v1 import offerings_pb2 as opb

from services.chassis.calls.wire import from_timestamp, to_timestamp
from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError
from services.distributions.domain.closing import find_earliest_early_close
from tests.support.distributions import START, DistributionsHarness


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


@pytest.mark.parametrize(
    ("exemption", "has_committed", "days", "accepted"),
    [
        # From Friday, 1 November 2024, five business days are over on the 8th.
        (opb.Offering.REG_CF, True, 1, False),
        (opb.Offering.REG_CF, False, 6, False),
        (opb.Offering.REG_CF, True, 7, True),
        (opb.Offering.REG_CF, True, 90, True),  # later than before: nobody loses time
        (opb.Offering.REG_D_506B, True, 6, False),
        (opb.Offering.REG_D_506B, False, 1, True),
    ],
)
async def test_an_earlier_deadline_gives_whoever_has_committed_notice(
    service: DistributionsHarness, exemption: opb.Offering.Exemption, has_committed: bool, days: int, accepted: bool
) -> None:
    offering = await service.offering(100_00, exemption=exemption)
    held = await service.invest(offering, "inv-001", 10_00, fund=False) if has_committed else None
    request = opb.UpdateOfferingRequest(offering_id=offering.offering_id)
    request.deadline_time.CopyFrom(to_timestamp(START + timedelta(days=days)))
    request.update_mask.paths.append("deadline_time")
    request.etag = (await service.get(offering)).etag
    if accepted:
        changed = await service.call(service.offerings.UpdateOffering, request)
        assert changed.deadline_time == request.deadline_time
        return
    with pytest.raises(DomainError) as refusal:
        await service.call(service.offerings.UpdateOffering, request)
    assert list(refusal.value.fields) == ["deadline_time"]
    if held is not None:
        cancel = opb.CancelInvestmentRequest(investment_id=held.investment_id)
        cancelled = await service.call(service.investments.CancelInvestment, cancel, "inv-001", "investor")
        assert cancelled.status == opb.Investment.CANCELLING


@pytest.mark.parametrize("seconds", [-(2**62), 2**62, 253_402_300_799])
async def test_a_time_beyond_every_plan_is_refused_by_field(service: DistributionsHarness, seconds: int) -> None:
    with pytest.raises(DomainError) as refusal:
        await service.offering(100_00, deadline_time=Timestamp(seconds=seconds))
    assert list(refusal.value.fields) == ["deadline_time"]


@pytest.mark.parametrize("opened", [timedelta(days=-90), timedelta(), timedelta(days=3)])
async def test_an_offering_that_is_dated_back_gives_as_much_time_as_one_that_is_not(
    service: DistributionsHarness, opened: timedelta
) -> None:
    """From when it is entered, or opens later."""
    fields = {"open_time": to_timestamp(START + opened)}
    earliest = find_earliest_early_close(max(START + opened, START).date())
    first = datetime(earliest.year, earliest.month, earliest.day, tzinfo=UTC)
    with pytest.raises(DomainError) as refusal:
        await service.offering(100_00, **fields, deadline_time=to_timestamp(first - timedelta(seconds=1)))
    assert list(refusal.value.fields) == ["deadline_time"]
    offering = await service.offering(100_00, **fields, deadline_time=to_timestamp(first))
    request = opb.GetClosingGatesRequest(offering_id=offering.offering_id)
    gates = await service.call(service.offerings.GetClosingGates, request)
    [days] = [gate for gate in gates.gates if gate.name == "OPEN_21_DAYS"]
    assert not days.passed, "nobody could invest before it was entered"


async def test_a_later_deadline_gives_time_to_withdraw_again_and_comes_before_the_one_it_replaces(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 10_00, fund=False)
    deadline_at = from_timestamp(offering.deadline_time)
    service.clock.set(deadline_at - timedelta(hours=1))
    request = opb.UpdateOfferingRequest(offering_id=offering.offering_id, etag=(await service.get(offering)).etag)
    request.update_mask.paths.append("deadline_time")
    for days, fields in ((1, ["deadline_time"]), (10, [])):
        request.deadline_time.CopyFrom(to_timestamp(deadline_at + timedelta(days=days)))
        if fields:
            with pytest.raises(DomainError) as refusal:
                await service.call(service.offerings.UpdateOffering, request)
            assert list(refusal.value.fields) == fields
    await service.call(service.offerings.UpdateOffering, request)
    cancel = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    cancelled = await service.call(service.investments.CancelInvestment, cancel, "inv-001", "investor")
    assert cancelled.status == opb.Investment.CANCELLING


@pytest.mark.parametrize("what", ["deadline_time", "terms", "display_name"])
async def test_one_person_changes_what_investors_agree_to_so_often_and_no_more(
    service: DistributionsHarness, what: str
) -> None:
    offering = await service.offering(100_00)

    async def change(number: int, person: str) -> opb.Offering:
        request = opb.UpdateOfferingRequest(offering_id=offering.offering_id, etag=(await service.get(offering)).etag)
        request.deadline_time.CopyFrom(to_timestamp(from_timestamp(offering.deadline_time) + timedelta(seconds=number)))
        [preferred] = [each for each in offering.terms.tiers if each.HasField("preferred_return")]
        preferred.preferred_return.rate = f"0.0{number}"
        request.terms.CopyFrom(offering.terms)
        request.display_name = f"Oak Street {number}"
        request.update_mask.paths.append(what)
        return await service.call(service.offerings.UpdateOffering, request, person)

    for number in range(1, 4):
        await change(number, "admin-1")
    with pytest.raises(DomainError) as refusal:
        await change(4, "admin-1")
    assert refusal.value.reason == "TOO_MANY_STOPS"
    assert await change(5, "admin-2"), "another person still does"
