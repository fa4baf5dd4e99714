"""What whoever approves a closing or a distribution reads, and when one that is dated ahead is approved and done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.transactions.v1.events_pb2 import TransactionUpdated
from realco.transactions.v1.transactions_pb2 import Transaction as Txn
from realco.type.v1.event_pb2 import EventMeta
from realco.type.v1.explanation_pb2 import Explanation

from services.chassis.calls.wire import to_timestamp
from services.chassis.data.database import Database
from services.chassis.values.approval import VALIDITY
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import ContentOutdated
from tests.support.approvals import gates_of
from tests.support.distribution_ends import reject
from tests.support.distributions import CLOSING, DistributionsHarness, refusal_of
from tests.support.money import usd


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def test_whoever_closes_or_distributes_reads_what_the_bank_may_take_back(service: DistributionsHarness) -> None:
    told = Explanation(statement="80.00 USD may go back.", rule="MONEY_NOT_FINAL")
    service.transactions.provisional = [told]
    open_one = await service.offering(150_00)
    await service.invest(open_one, "inv-001", 150_00)
    closed_one = await service.closed_offering(("inv-001", 100_000_00))
    distribution = await service.submit(await service.calculate(await service.draft(closed_one, 10_000_00)))
    close = opb.CloseOfferingRequest(offering_id=open_one.offering_id)
    closing = await service.ask(service.offerings.CloseOffering, close)
    waiting = await service.find_approval(distribution.distribution_id)
    [date] = [each.statement for each in waiting.explanations if each.rule == "DISTRIBUTION_DATE"]
    assert date.startswith(f"It counts as of {distribution.distribution_date.year}-")
    assert service.transactions.deadlines_asked == [open_one.deadline_time, None], "of a closing: what came too late"
    for approval in (closing, waiting):
        assert [each for each in approval.explanations if each.rule == told.rule] == [told]


async def test_what_is_dated_ahead_is_approved_before_its_day_and_executed_on_it(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    approved = await service.approved(offering, 10_000_00)
    day = service.clock.now()
    service.clock.set(datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(seconds=1))
    read = await service.get(approved)
    assert "execute" not in read.allowed_actions
    assert await refusal_of(service.execute(read)) == "DISTRIBUTION_NOT_DUE"
    service.clock.set(service.clock.now() + timedelta(seconds=1))
    read = await service.get(approved)
    assert "execute" in read.allowed_actions
    assert (await service.execute(read)).status == dpb.Distribution.QUEUED


async def test_whoever_approves_a_distribution_reads_which_payees_have_a_new_account_and_who_has_none(
    service: DistributionsHarness,
) -> None:
    old, young, unused = (service.transactions.add_bank_account(f"inv-00{each}") for each in (1, 2, 3))
    now = service.clock.now() + timedelta(days=500)
    accounts = service.transactions.bank_accounts
    accounts[young].create_time.CopyFrom(to_timestamp(now - timedelta(days=29)))
    accounts[young].created_by = "admin-5"
    for paid in (old, young):
        service.transactions.first_paid[paid] = to_timestamp(now - timedelta(days=2))
    parts = ((f"inv-00{each}", 50_000_00) for each in (1, 2, 3, 4))
    offering = await service.closed_offering(*parts)
    service.clock.set(now)
    distribution = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)))
    waiting = await service.find_approval(distribution.distribution_id)
    [told] = [each for each in waiting.explanations if each.rule == "PAYEE_ACCOUNTS"]
    assert told.statement == (
        "Of 4 payees, 3 have a bank account for payouts. Without one, and so not paid: inv-004."
        " NEW accounts, added within 30 days or never paid to: 2."
    )
    named = {each.name: each.value for each in told.operands}
    assert list(named) == ["inv-002", "inv-003"], "the newest first"
    assert named["inv-002"].endswith(f"by admin-5, first paid to on {now - timedelta(days=2):%Y-%m-%d}")
    assert named["inv-003"].endswith("never paid to")
    assert accounts[unused].party_id == "inv-003"


async def test_whoever_approves_a_distribution_reads_to_whom_a_payout_was_taken_back(
    service: DistributionsHarness,
) -> None:
    service.transactions.add_bank_account("inv-001")
    service.transactions.taken_back["inv-001"] = to_timestamp(service.clock.now() - timedelta(days=20))
    offering = await service.closed_offering(("inv-001", 50_000_00))
    distribution = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)))
    waiting = await service.find_approval(distribution.distribution_id)
    [told] = [each for each in waiting.explanations if each.rule == "PAYEE_ACCOUNTS"]
    assert "TAKEN BACK by debits within a year were payouts to inv-001, the last on" in told.statement
    assert told.operands[0].value.endswith("never paid to, or only what a debit took back")


async def test_what_is_dated_so_far_ahead_that_its_approval_would_end_before_is_not_submitted(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    calculated = await service.calculate(await service.draft(offering, 10_000_00))
    service.clock.set(service.clock.now() - VALIDITY - timedelta(days=1))
    assert await refusal_of(service.submit(calculated)) == "DISTRIBUTION_NOT_DUE"
    service.clock.set(service.clock.now() + timedelta(days=1))
    approved = await service.approve(await service.submit(calculated))
    service.clock.set(service.clock.now() + VALIDITY - timedelta(seconds=1))
    assert (await service.execute(await service.get(approved))).status == dpb.Distribution.QUEUED


async def test_what_was_approved_once_and_waits_again_is_not_said_to_have_been_done(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    approved = await service.approved(offering, 10_000_00)
    await reject(service, approved)
    again = await service.submit(await service.calculate(await service.get(approved)))
    waiting = await service.find_approval(again.distribution_id)
    [told] = [each.statement for each in waiting.explanations if each.rule == "SAME_CONTENT"]
    assert told.endswith(", and since then it was taken back or asked for again.")


async def test_what_would_do_something_else_by_now_says_so_and_in_what(service: DistributionsHarness) -> None:
    offering = await service.offering(150_00, maximum_amount=usd(200_00))
    await service.invest(offering, "inv-001", 100_00)
    refund = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="The sale fell through.")
    asked = await service.ask(service.offerings.RefundOffering, refund)
    assert "CONTENT_CURRENT" not in gates_of(asked, "shut")
    await service.invest(offering, "inv-002", 50_00)
    read = await service.read_approval(asked.approval_id)
    assert "CONTENT_CURRENT" in gates_of(read, "shut")
    said = read.explanations[0].statement
    assert said.startswith("It would do something else now than when it was asked for (amount, fundedSha256):")
    with pytest.raises(ContentOutdated) as refused:
        await service.grant(read)
    assert refused.value.message == said


async def test_while_a_card_s_payment_is_disputed_the_offering_does_not_close_whatever_is_held(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(150_00)
    held = await service.invest(offering, "inv-001", 150_00, fund=False)
    paid = await service.fund(offering, held, 150_00)
    service.clock.set(CLOSING)
    newer = 10_000  # than whatever this process told of payments before

    async def hear(status: Txn.DisputeStatus, version: int) -> str:
        told = Txn()
        told.CopyFrom(paid)
        told.status, told.dispute_status, told.dispute_reference = Txn.COMPLETED, status, "du_1"
        meta = EventMeta(event_id=new_id("evt"), aggregate_version=version)
        await service.deliver(TransactionUpdated(meta=meta, transaction=told))
        gates = await service.call(
            service.offerings.GetClosingGates, opb.GetClosingGatesRequest(offering_id=offering.offering_id)
        )
        return ",".join(each.explanation.rule for each in gates.gates if not each.passed)

    assert await hear(Txn.NEEDS_RESPONSE, newer) == "RETURN_RISK_OVER"
    assert await hear(Txn.UNDER_REVIEW, newer + 1) == "RETURN_RISK_OVER"
    assert await hear(Txn.WON, newer + 2) == ""
    assert await hear(Txn.NEEDS_RESPONSE, newer + 1) == "", "heard late"
