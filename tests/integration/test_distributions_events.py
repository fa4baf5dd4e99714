"""What subscribers are told: every change with the state after it, so that events alone equal what can be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.message import Message
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb

from services.chassis.data import tables as chassis_tables
from services.chassis.data.database import Database
from services.chassis.data.event_messages import scope_of
from services.distributions.tables import moves
from tests.support.distributions import DistributionsHarness
from tests.support.events import as_in_events
from tests.support.peers.transactions import complete_payout, fail_payout, return_payout

RESOURCES = {"Offering": "offering_id", "Investment": "investment_id"} | {
    "Distribution": "distribution_id",
    "Allocation": "allocation_id",
}


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def read_events(service: DistributionsHarness) -> list[Any]:
    """All of them, in the order they are published in."""
    outbox = chassis_tables.outbox.c
    async with service.database.begin_for_all() as tx:
        rows = await tx.execute(sa.select(outbox.event_type, outbox.payload).order_by(outbox.id))
        return [getattr(events, name.rpartition(".")[2]).FromString(payload) for name, payload in rows]


def states_in(event: Message) -> Iterator[Message]:
    for _, value in event.ListFields():
        found = value if not isinstance(value, Message | str | int) else [value]
        yield from (each for each in found if isinstance(each, Message) and each.DESCRIPTOR.name in RESOURCES)


def fold(told: list[Any]) -> dict[str, Message]:
    """Id -> the last state that an event told."""
    return {getattr(state, RESOURCES[state.DESCRIPTOR.name]): state for event in told for state in states_in(event)}


async def read_all(service: DistributionsHarness) -> dict[str, Message]:
    """Id -> the state that can be read, of everything there is."""
    everything: list[Message] = []
    answer = await service.call(service.offerings.ListOfferings, opb.ListOfferingsRequest(page_size=1000))
    everything += answer.offerings
    answer = await service.call(service.investments.ListInvestments, opb.ListInvestmentsRequest(page_size=1000))
    everything += answer.investments
    answer = await service.call(service.distributions.ListDistributions, dpb.ListDistributionsRequest(page_size=1000))
    everything += answer.distributions
    for distribution in answer.distributions:
        everything += (await service.allocations(distribution)).values()
    return {getattr(state, RESOURCES[state.DESCRIPTOR.name]): as_in_events(state) for state in everything}


async def distribute(service: DistributionsHarness) -> None:
    """A closing, a draft that stays one, and a distribution with a failure, another attempt and a return."""
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    await service.deliver(complete_payout(service.transactions.newest("sponsor-1")))
    await service.draft(offering, 1_00)
    distribution = await service.executed(offering, 180_000_00)
    await service.pay(distribution, but=["inv-002"])
    await service.deliver(fail_payout(service.transactions.newest("inv-002")))
    owed = (await service.allocations(distribution))["inv-002"]
    where = {"distribution_id": distribution.distribution_id, "allocation_id": owed.allocation_id}
    await service.call(service.distributions.ResendAllocation, dpb.ResendAllocationRequest(**where))
    await service.work()
    await service.deliver(complete_payout(service.transactions.newest("inv-002")))
    await service.deliver(return_payout(service.transactions.newest("inv-001")))


async def refund(service: DistributionsHarness) -> None:
    """A raise that fails: one refund is paid, one is refused, and one commitment was never funded."""
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 60_00)
    await service.invest(offering, "inv-002", 30_00)
    await service.invest(offering, "inv-003", 10_00, fund=False)
    service.transactions.without_bank_account.add("inv-002")
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    await service.call(service.offerings.RefundOffering, request)
    await service.work()
    payout = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(payout), complete_payout(payout))


async def reject_and_cancel(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    submitted = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)))
    known = {"distribution_id": submitted.distribution_id}
    rejection = dpb.RejectDistributionRequest(**known, note="no", etag=submitted.etag)
    await service.call(service.distributions.RejectDistribution, rejection, "admin-2")
    await service.calculate(submitted)
    await service.call(service.distributions.CancelDistribution, dpb.CancelDistributionRequest(**known))


@pytest.mark.parametrize("story", [distribute, refund, reject_and_cancel])
async def test_what_events_tell_is_what_can_be_read(
    service: DistributionsHarness, story: Callable[[DistributionsHarness], Awaitable[None]]
) -> None:
    await story(service)
    told = await read_events(service)
    assert fold(told) == await read_all(service)
    versions: dict[str, int] = {}
    for event in told:
        versions[event.meta.aggregate_id] = versions.get(event.meta.aggregate_id, 0) + 1
        assert event.meta.aggregate_version == versions[event.meta.aggregate_id], "no gaps"
        assert scope_of(event).startswith("off_"), "every event belongs to an offering"


async def test_every_move_is_a_line_of_history_with_its_person(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    submitted = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)), "admin-7")
    async with service.database.begin_for_all() as tx:
        rows = (await tx.execute(sa.select(moves).order_by(moves.c.version))).all()
    lines = [(row.from_status, row.to_status, row.actor) for row in rows if row.subject_id == submitted.distribution_id]
    assert lines == [(None, "DRAFT", "admin-1"), ("DRAFT", "PENDING_APPROVAL", "admin-7")]
    lines = [(row.from_status, row.to_status, row.actor) for row in rows if row.subject_id == offering.offering_id]
    assert lines == [
        (None, "OPEN", "admin-1"),
        ("OPEN", "CLOSING", "admin-1"),
        ("CLOSING", "CLOSED", "admin-1"),
    ]
