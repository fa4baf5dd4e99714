"""A job that dies anywhere between two transactions leaves nothing undone and nothing done twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb
from realco.transactions.v1 import events_pb2 as transactions_events

from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError, Kind
from services.distributions.store.sagas import LEASE
from tests.support.distributions import CLOSING, World
from tests.support.distributions_peers import Killed, Txn, completed, failed, moved, refused

FAULTS = ("lost", "unanswered", "killed", "killed_after")


@pytest.fixture
async def world(service_database: Callable[[str], Awaitable[Database]]) -> World:
    return World(await service_database("distributions"))


async def through(world: World) -> None:
    """Works until all is done: after a kill another worker comes once the lease ran out, after an unknown, later."""
    for _ in range(6):
        try:
            await world.work()
        except Killed:
            world.clock.advance(LEASE)
        world.clock.advance(timedelta(seconds=40))
    assert not any(world.wire.faults.values()), "a fault that was not hit proves nothing"


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("call", ["declare_distribution", "batch_create_payouts"])
async def test_an_execution_declares_once_and_pays_each_allocation_once(world: World, call: str, how: str) -> None:
    offering = await world.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    world.deposit(offering, 15_000_00)
    distribution = await world.execute(await world.approved(offering, 15_000_00))
    world.wire.fail(call, how, how)
    await through(world)
    assert world.escrow.book[offering.escrow_account_id, "payable:inv-001"] == 10_000_00
    assert world.escrow.book[offering.escrow_account_id, "distributable"] == 0
    payouts = [p for p in world.transactions.by_key.values() if p.distribution_id == distribution.distribution_id]
    assert sorted((p.party_id, p.amount.amount_minor) for p in payouts) == [
        ("inv-001", 10_000_00),
        ("inv-002", 5_000_00),
    ]
    assert world.wire.count(call) >= 3
    await world.pay(distribution)
    assert (await world.get(distribution)).status == dpb.Distribution.COMPLETED
    assert len(await world.told(events.DistributionDeclared)) == 1


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("call", ["release_subscriptions", "batch_create_payouts"])
async def test_a_closing_releases_once_and_pays_the_proceeds_once(world: World, call: str, how: str) -> None:
    offering = await world.offering(150_000_00)
    await world.invest(offering, "inv-001", 100_000_00)
    await world.invest(offering, "inv-002", 50_000_00)
    world.clock.set(CLOSING)
    await world.close(offering)
    world.wire.fail(call, how, how)
    await through(world)
    assert (await world.get(offering)).status == opb.Offering.CLOSED
    assert world.escrow.book[offering.escrow_account_id, "issuer_proceeds"] == 150_000_00
    assert [p.amount.amount_minor for p in world.transactions.by_key.values()] == [150_000_00]
    assert len(await world.told(events.InvestmentActivated)) == 2
    assert len(await world.told(events.OfferingClosed)) == 1


async def test_a_worker_that_was_thought_dead_cannot_write_over_the_one_that_took_its_place(world: World) -> None:
    offering = await world.closed_offering(("inv-001", 100_000_00))
    world.deposit(offering, 10_000_00)
    await world.execute(await world.approved(offering, 10_000_00))
    world.wire.fail("declare_distribution", "killed_after")
    with pytest.raises(Killed):
        await world.work()
    assert await world.work() == 0, "the lease keeps others away"
    world.clock.advance(LEASE)
    answer = world.escrow.declare_distribution

    async def slow(request: object) -> object:
        """While the first worker waits for its answer, the lease runs out and a second one does the step."""
        world.escrow.declare_distribution = answer
        world.clock.advance(LEASE)
        await world.work()
        return await answer(request)

    world.escrow.declare_distribution = slow
    await world.work()
    assert len(await world.told(events.DistributionDeclared)) == 1
    assert len(world.transactions.by_key) == 2  # the proceeds, and the one payout


async def test_a_declaration_that_escrow_refuses_fails_the_distribution_and_frees_the_offering(world: World) -> None:
    offering = await world.closed_offering(("inv-001", 100_000_00))
    world.deposit(offering, 10_000_00)
    distribution = await world.execute(await world.approved(offering, 10_000_00))
    world.escrow.refuse["declare_distribution"] = refused(Kind.FAILED_PRECONDITION, "ESCROW_ACCOUNT_FROZEN")
    await world.work()
    told = await world.get(distribution)
    assert (told.status, told.failure) == (
        dpb.Distribution.FAILED,
        "ESCROW_ACCOUNT_FROZEN: ESCROW_ACCOUNT_FROZEN it is",
    )
    assert (await world.positions(offering))["inv-001"].unreturned_capital.amount_minor == 100_000_00
    again = await world.execute(await world.approved(offering, 10_000_00))
    await world.work()
    assert (await world.get(again)).status == dpb.Distribution.PROCESSING


async def test_a_release_that_escrow_refuses_leaves_the_offering_open_and_a_later_closing_asks_anew(
    world: World,
) -> None:
    offering = await world.offering(100_000_00)
    await world.invest(offering, "inv-001", 100_000_00)
    world.clock.set(CLOSING)
    world.escrow.refuse["release_subscriptions"] = refused(Kind.FAILED_PRECONDITION, "ESCROW_ACCOUNT_FROZEN")
    await world.close(offering)
    await world.work()
    assert (await world.get(offering)).status == opb.Offering.OPEN
    await world.close(offering)
    await world.work()
    assert (await world.get(offering)).status == opb.Offering.CLOSED
    keys = [request.idempotency_key for call, request in world.wire.calls if call == "release_subscriptions"]
    assert keys == [f"close:{offering.offering_id}", f"close:{offering.offering_id}:2"]


async def test_a_payout_that_completes_before_its_creation_was_recorded_completes_its_allocation(world: World) -> None:
    offering = await world.closed_offering(("inv-001", 100_000_00))
    world.deposit(offering, 10_000_00)
    distribution = await world.execute(await world.approved(offering, 10_000_00))
    world.wire.fail("batch_create_payouts", "killed_after")
    with pytest.raises(Killed):
        await world.work()
    payout = world.transactions.of("inv-001")
    await world.deliver(completed(payout))
    done = await world.get(distribution)
    assert (done.status, done.paid_amount.amount_minor) == (dpb.Distribution.COMPLETED, 10_000_00)
    world.clock.advance(LEASE)
    await world.work()
    allocation = (await world.allocations(distribution))["inv-001"]
    assert (allocation.status, allocation.transaction_id) == (dpb.Allocation.COMPLETED, payout.transaction_id)


async def test_events_out_of_order_and_twice_leave_what_the_newest_says(world: World) -> None:
    offering = await world.closed_offering(("inv-001", 100_000_00))
    distribution = await world.executed(offering, 10_000_00)
    payout = world.transactions.of("inv-001")
    older = completed(payout)
    older = type(older).FromString(older.SerializeToString())
    newer = failed(payout)
    newer = type(newer).FromString(newer.SerializeToString())
    await world.deliver(newer, older, newer)
    assert (await world.allocations(distribution))["inv-001"].status == dpb.Allocation.FAILED
    assert (await world.positions(offering))["inv-001"].distributed_amount.amount_minor == 0


async def test_an_event_of_an_earlier_attempt_does_not_touch_the_later_one(world: World) -> None:
    offering = await world.closed_offering(("inv-001", 100_000_00))
    distribution = await world.executed(offering, 10_000_00)
    first = world.transactions.of("inv-001")
    await world.deliver(failed(first))
    owed = (await world.allocations(distribution))["inv-001"]
    request = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id, allocation_id=owed.allocation_id
    )
    await world.call(world.distributions.ResendAllocation, request)
    await world.work()
    await world.deliver(failed(first, "R04"))
    allocation = (await world.allocations(distribution))["inv-001"]
    assert (allocation.status, allocation.attempts) == (dpb.Allocation.PROCESSING, 2)


async def test_proceeds_that_were_rejected_are_asked_for_again_by_closing_again(world: World) -> None:
    offering = await world.closed_offering(("inv-001", 100_000_00))
    first = world.transactions.of("sponsor-1")
    with pytest.raises(DomainError) as refusal:
        await world.close(offering)
    assert refusal.value.reason == "ILLEGAL_STATUS_CHANGE"
    await world.deliver(moved(first, transactions_events.TransactionCancelled, Txn.CANCELLED))
    await world.close(offering, "admin-2")
    await world.work()
    second = world.transactions.of("sponsor-1")
    assert (second.amount.amount_minor, second.transaction_id != first.transaction_id) == (100_000_00, True)
    assert (await world.get(offering)).proceeds_transaction_id == second.transaction_id


async def test_proceeds_that_were_not_paid_say_why_on_the_offering_until_they_are_asked_for_again(
    world: World,
) -> None:
    world.transactions.refuse["sponsor-1"] = "NO_PAYOUT_BANK_ACCOUNT"
    offering = await world.closed_offering(("inv-001", 100_000_00))
    assert (offering.proceeds_transaction_id, offering.proceeds_failure) == ("", "NO_PAYOUT_BANK_ACCOUNT: no")
    del world.transactions.refuse["sponsor-1"]
    assert (await world.close(offering)).proceeds_failure == ""
    await world.work()
    payout = world.transactions.of("sponsor-1")
    await world.deliver(failed(payout))
    told = await world.get(offering)
    assert (told.proceeds_transaction_id, told.proceeds_failure) == (payout.transaction_id, "R03: R03 it is")
    await world.close(offering)
    await world.work()
    again = world.transactions.of("sponsor-1")
    await world.deliver(completed(again))
    # The first attempt cannot be paid any more; if it says so, a person looks at it, and the offering stays as it is.
    await world.deliver(completed(payout))
    told = await world.get(offering)
    assert (told.proceeds_transaction_id, told.proceeds_failure) == (again.transaction_id, "")


async def test_the_saga_acts_for_the_person_who_asked(world: World) -> None:
    offering = await world.closed_offering(("inv-001", 100_000_00))
    world.deposit(offering, 10_000_00)
    await world.execute(await world.approved(offering, 10_000_00), "sponsor-7")
    await world.work()
    assert [told.meta.actor for told in await world.told(events.DistributionDeclared)] == ["sponsor-7"]
    assert world.wire.persons["declare_distribution"] == "sponsor-7"
    assert world.wire.persons["release_subscriptions"] == "admin-1"
