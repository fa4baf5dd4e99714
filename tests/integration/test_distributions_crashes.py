"""A job that dies anywhere between two transactions leaves nothing undone and nothing done twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.escrow.v1.postings_pb2 import DeclareDistributionRequest
from realco.transactions.v1 import events_pb2 as transactions_events

from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.values.refusals import IllegalStatusChange
from services.distributions.domain.refusals import NothingToResend
from services.distributions.store.distributions import DISTRIBUTIONS
from services.distributions.tables import sagas
from tests.support import servers
from tests.support.distributions import CLOSING, ORG, DistributionsHarness
from tests.support.peers.transactions import Txn, complete_payout, fail_payout, move_payout
from tests.support.peers.wire import Killed

FAULTS = ("lost", "unanswered", "killed", "killed_after")


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def through(service: DistributionsHarness) -> None:
    """Works until all is done: after a kill another worker comes once the lease ran out, after an unknown, later."""
    for _ in range(6):
        try:
            await service.work()
        except Killed:
            continue
        finally:
            await service.make_due()
    assert not any(service.wire.faults.values()), "a fault that was not hit proves nothing"


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("call", ["DeclareDistribution", "BatchCreatePayouts"])
async def test_an_execution_declares_once_and_pays_each_allocation_once(
    service: DistributionsHarness, call: str, how: str
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    service.deposit(offering, 15_000_00)
    distribution = await service.execute(await service.approved(offering, 15_000_00))
    service.wire.fail(call, how, how)
    await through(service)
    assert service.escrow.book[offering.escrow_account_id, "payable:inv-001"] == 10_000_00
    assert service.escrow.book[offering.escrow_account_id, "distributable"] == 0
    payouts = [p for p in service.transactions.by_key.values() if p.distribution_id == distribution.distribution_id]
    assert sorted((p.party_id, p.amount.amount_minor) for p in payouts) == [
        ("inv-001", 10_000_00),
        ("inv-002", 5_000_00),
    ]
    assert len(service.wire.requests(call)) >= 3
    await service.pay(distribution)
    assert (await service.get(distribution)).status == dpb.Distribution.COMPLETED
    assert len(await service.told(events.DistributionDeclared)) == 1


async def test_what_escrow_declared_goes_on_in_a_release_that_spells_its_content_otherwise(
    service: DistributionsHarness,
) -> None:
    """The release before approved it under the hash of its own spelling, and sealed that."""
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    distribution = await service.execute(await service.approved(offering, 10_000_00))
    with service.as_("admin-1", "admin"):
        async with service.database.begin(ORG) as tx:
            kept = await DISTRIBUTIONS.lock_known(tx, distribution.distribution_id)
            spelled = replace(kept, content_hash="f" * 64, approved_hash="f" * 64)
            await DISTRIBUTIONS.save(tx, kept, spelled, kept.updated_at)
    await through(service)
    await service.pay(distribution)
    assert (await service.get(distribution)).status == dpb.Distribution.COMPLETED


async def test_what_holds_a_saga_up_stands_in_its_row_until_an_operator_mends_it(
    service: DistributionsHarness, postgres: servers.TestPostgres
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    distribution = await service.execute(await service.approved(offering, 10_000_00))
    async with service.database.begin(ORG) as tx:  # past the service, as somebody with its login would
        await tx.execute(sa.text("UPDATE offerings SET funded_minor = funded_minor + 1, version = version + 1"))
    with pytest.raises(NotSealed):
        await service.work()
    async with service.database.begin_for_all() as tx:
        told = await tx.scalar(sa.select(sa.func.max(sagas.c.last_error)))
    assert told.startswith("NotSealed: offerings "), told
    mend = "UPDATE offerings SET funded_minor = funded_minor - 1, version = version - 1"
    await servers.put_right(postgres.admin_dsn, service.database, mend)
    await through(service)
    await service.pay(distribution)
    assert (await service.get(distribution)).status == dpb.Distribution.COMPLETED


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("call", ["ReleaseSubscriptions", "BatchCreatePayouts"])
async def test_a_closing_releases_once_and_pays_the_proceeds_once(
    service: DistributionsHarness, call: str, how: str
) -> None:
    offering = await service.offering(150_000_00)
    await service.invest(offering, "inv-001", 100_000_00)
    await service.invest(offering, "inv-002", 50_000_00)
    service.clock.set(CLOSING)
    await service.close(offering)
    service.wire.fail(call, how, how)
    await through(service)
    assert (await service.get(offering)).status == opb.Offering.CLOSED
    assert service.escrow.book[offering.escrow_account_id, "issuer_proceeds"] == 150_000_00
    assert [p.amount.amount_minor for p in service.transactions.by_key.values()] == [150_000_00]
    assert len(await service.told(events.InvestmentActivated)) == 2
    assert len(await service.told(events.OfferingClosed)) == 1


async def test_a_worker_that_was_thought_dead_cannot_write_over_the_one_that_took_its_place(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    await service.execute(await service.approved(offering, 10_000_00))
    service.wire.fail("DeclareDistribution", "killed_after")
    with pytest.raises(Killed):
        await service.work()
    # The business clock may jump by years, as in a sandbox: a lease is time of the database.
    service.clock.advance(timedelta(days=400))
    assert await service.work() == 0, "the lease keeps others away"
    await service.make_due()
    answer = service.escrow.DeclareDistribution

    async def slow(request: DeclareDistributionRequest, context: None) -> JournalEntry:
        """While the first worker waits for its answer, the lease runs out and a second one does the step."""
        service.escrow.DeclareDistribution = answer
        await service.make_due()
        await service.work()
        return await answer(request, context)

    service.escrow.DeclareDistribution = slow
    await service.work()
    assert len(await service.told(events.DistributionDeclared)) == 1
    assert len(service.transactions.by_key) == 2  # the proceeds, and the one payout


async def test_a_declaration_that_escrow_refuses_fails_the_distribution_and_frees_the_offering(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    distribution = await service.execute(await service.approved(offering, 10_000_00))
    account = service.escrow.accounts[offering.escrow_account_id]
    account.status = EscrowAccount.FROZEN
    await service.work()
    account.status = EscrowAccount.ACTIVE
    told = await service.get(distribution)
    assert (told.status, told.failure.code) == (dpb.Distribution.FAILED, "ESCROW_ACCOUNT_FROZEN")
    assert {each.status for each in (await service.allocations(distribution)).values()} == {dpb.Allocation.CANCELLED}
    assert (await service.positions(offering))["inv-001"].unreturned_capital.amount_minor == 100_000_00
    again = await service.execute(await service.approved(offering, 10_000_00))
    await service.work()
    assert (await service.get(again)).status == dpb.Distribution.PROCESSING


async def test_a_release_that_escrow_refuses_leaves_the_offering_open_with_the_reason_and_a_later_closing_asks_anew(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_000_00)
    await service.invest(offering, "inv-001", 100_000_00)
    service.clock.set(CLOSING)
    await service.close(offering)
    hold_id = service.escrow.hold(offering.escrow_account_id, "subscription:inv-001", 1)
    await service.work()
    del service.escrow.holds[hold_id]
    event = (await service.told(events.OfferingUpdated))[-1]
    for told in (event.offering, await service.get(offering)):
        assert (told.status, told.closing_failure.code) == (opb.Offering.OPEN, "INSUFFICIENT_AVAILABLE_BALANCE")
        assert told.closing_failure.metadata["available_minor"] == "9999999"
    assert not (await service.close(offering)).HasField("closing_failure")
    await service.work()
    assert (await service.get(offering)).status == opb.Offering.CLOSED
    first, second = (request.idempotency_key for request in service.wire.requests("ReleaseSubscriptions"))
    assert first != second  # another decision


async def test_a_payout_that_completes_before_its_creation_was_recorded_completes_its_allocation(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    distribution = await service.execute(await service.approved(offering, 10_000_00))
    service.wire.fail("BatchCreatePayouts", "killed_after")
    with pytest.raises(Killed):
        await service.work()
    payout = service.transactions.newest("inv-001")
    await service.deliver(complete_payout(payout))
    done = await service.get(distribution)
    assert (done.status, done.paid_amount.amount_minor) == (dpb.Distribution.COMPLETED, 10_000_00)
    await service.make_due()
    await service.work()
    allocation = (await service.allocations(distribution))["inv-001"]
    assert (allocation.status, allocation.transaction_id) == (dpb.Allocation.COMPLETED, payout.transaction_id)


async def test_events_out_of_order_and_twice_leave_what_the_newest_says(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    distribution = await service.executed(offering, 10_000_00)
    payout = service.transactions.newest("inv-001")
    older = complete_payout(payout)
    older = type(older).FromString(older.SerializeToString())
    newer = fail_payout(payout)
    newer = type(newer).FromString(newer.SerializeToString())
    await service.deliver(newer, older, newer)
    assert (await service.allocations(distribution))["inv-001"].status == dpb.Allocation.FAILED
    assert (await service.positions(offering))["inv-001"].distributed_amount.amount_minor == 0


async def test_an_event_of_an_earlier_attempt_does_not_touch_the_later_one(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    distribution = await service.executed(offering, 10_000_00)
    first = service.transactions.newest("inv-001")
    await service.deliver(fail_payout(first))
    owed = (await service.allocations(distribution))["inv-001"]
    request = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id, allocation_id=owed.allocation_id
    )
    await service.call(service.distributions.ResendAllocation, request)
    await service.work()
    await service.deliver(fail_payout(first, "R04"))
    allocation = (await service.allocations(distribution))["inv-001"]
    assert (allocation.status, allocation.attempts) == (dpb.Allocation.PROCESSING, 2)


async def test_proceeds_are_sent_again_once_they_were_rejected_and_the_offering_is_not_closed_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    first = service.transactions.newest("sponsor-1")
    with pytest.raises(NothingToResend):
        await service.resend_proceeds(offering)
    await service.deliver(move_payout(first, transactions_events.TransactionCancelled, Txn.CANCELLED))
    with pytest.raises(IllegalStatusChange):
        await service.close(offering)
    await service.resend_proceeds(offering, "admin-2")
    with pytest.raises(NothingToResend):
        await service.resend_proceeds(offering)
    await service.work()
    second = service.transactions.newest("sponsor-1")
    assert (second.amount.amount_minor, second.transaction_id != first.transaction_id) == (100_000_00, True)
    assert (await service.get(offering)).proceeds_transaction_id == second.transaction_id


async def test_proceeds_that_were_not_paid_say_why_on_the_offering_until_they_are_asked_for_again(
    service: DistributionsHarness,
) -> None:
    service.transactions.without_bank_account.add("sponsor-1")
    offering = await service.closed_offering(("inv-001", 100_000_00))
    assert not offering.HasField("proceeds_transaction_id")
    assert offering.proceeds_failure.code == "NO_PAYOUT_BANK_ACCOUNT"
    assert offering.proceeds_failure.message == "The party has no confirmed bank account for payouts."
    service.transactions.without_bank_account.remove("sponsor-1")
    assert not (await service.resend_proceeds(offering)).HasField("proceeds_failure")
    await service.work()
    payout = service.transactions.newest("sponsor-1")
    await service.deliver(fail_payout(payout))
    told = await service.get(offering)
    assert (told.proceeds_transaction_id, told.proceeds_failure.code) == (payout.transaction_id, "DECLINED_BY_PROVIDER")
    await service.resend_proceeds(offering)
    await service.work()
    again = service.transactions.newest("sponsor-1")
    await service.deliver(complete_payout(again))
    # The first attempt cannot be paid any more; if it says so, a person looks at it, and the offering stays as it is.
    await service.deliver(complete_payout(payout))
    told = await service.get(offering)
    assert (told.proceeds_transaction_id, told.HasField("proceeds_failure")) == (again.transaction_id, False)


async def test_the_saga_acts_for_the_person_who_asked(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    await service.execute(await service.approved(offering, 10_000_00), "sponsor-7")
    await service.work()
    assert [told.meta.actor for told in await service.told(events.DistributionDeclared)] == ["sponsor-7"]
    assert service.wire.persons["DeclareDistribution"] == "sponsor-7"
    assert service.wire.persons["ReleaseSubscriptions"] == "admin-1"
