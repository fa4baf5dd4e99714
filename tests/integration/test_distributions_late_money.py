"""Money that arrives when nobody wants it any more: after a closing, a withdrawal, or the end of a raise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from google.protobuf.message import Message
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.wire import to_timestamp
from services.chassis.data.database import Database
from tests.support.distributions import CLOSING, DistributionsHarness, Entry
from tests.support.money import usd
from tests.support.peers.transactions import Txn, cancel_payout, complete_payout, fail_payout, return_payout


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def test_money_that_arrives_after_the_closing_goes_back_by_itself(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_00), ("inv-002", 50_00))
    held = (await service.positions(offering))["inv-002"]
    await service.fund(offering, held, 5_00)
    await service.work()
    payout = service.transactions.newest("inv-002")
    assert (payout.amount.amount_minor, payout.investment_id) == (5_00, held.investment_id)
    await service.deliver(service.gave_back(payout), complete_payout(payout))
    await service.work()
    after = (await service.positions(offering))["inv-002"]
    assert (after.status, after.funded_amount, after.unreturned_capital) == (
        opb.Investment.ACTIVE,
        usd(50_00),
        usd(50_00),
    )
    assert len(service.transactions.by_key) == 2


async def test_a_payment_under_way_when_the_raise_failed_goes_back_once_it_has_arrived_and_cleared(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 100_00, fund=False)
    under_way = service.at_the_bank(offering, held, 100_00)
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    await service.call(service.offerings.RefundOffering, request)
    await service.work()
    assert (await service.get(offering)).status == opb.Offering.REFUNDING
    await service.deliver(service.arrived(under_way))
    assert await service.work() == 0, "the bank may still take it back"
    await service.deliver(complete_payout(under_way))
    await service.work()
    payout = service.transactions.newest("inv-001")
    await service.deliver(complete_payout(payout), service.gave_back(payout))
    after = await service.get(held)
    assert (after.status, after.funded_amount, after.cleared_amount) == (opb.Investment.CANCELLED, usd(0), usd(0))
    assert (payout.amount, len(service.transactions.by_key)) == (usd(100_00), 1)


async def test_a_raise_is_refunded_once_money_that_came_after_a_withdrawal_has_gone_back_too_be_it_elsewhere(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    withdrawal = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.call(service.investments.CancelInvestment, withdrawal, "inv-001", "investor")
    await service.fund(offering, held, 60_00)
    await service.work()
    failed = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(failed), fail_payout(failed), service.bounced(failed))
    assert (await service.get(held)).status == opb.Investment.CANCELLING
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    assert (await service.call(service.offerings.RefundOffering, request)).status == opb.Offering.REFUNDING
    elsewhere = opb.ResendRefundRequest(
        investment_id=held.investment_id, bank_account_id=service.transactions.add_bank_account("inv-001")
    )
    await service.call(service.investments.ResendRefund, elsewhere, "inv-001", "investor")
    await service.work()
    again = service.transactions.newest("inv-001")
    assert (failed.bank_account_id, again.bank_account_id) == ("", elsewhere.bank_account_id)
    await service.deliver(complete_payout(again))
    assert (await service.get(offering)).status == opb.Offering.REFUNDING, "it is not booked yet"
    await service.deliver(service.gave_back(again))
    after = await service.get(offering)
    assert (after.status, after.funded_amount) == (opb.Offering.REFUNDED, usd(0))
    assert len(await service.told(events.OfferingRefunded)) == 1


async def test_a_refund_that_comes_back_after_all_had_gone_makes_the_raise_refund_again_until_it_has_gone(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00)
    await refund(service, offering)
    paid = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(paid), complete_payout(paid))
    assert await statuses(service, offering, held) == (opb.Offering.REFUNDED, opb.Investment.CANCELLED)

    await service.deliver(return_payout(paid), service.bounced(paid))
    assert await statuses(service, offering, held) == (opb.Offering.REFUNDING, opb.Investment.CANCELLING)
    assert (await service.get(held)).refund_failure.code == "RETURNED_BY_BANK"
    assert await service.work() == 0, "a person says whether it goes to the same account again"

    await service.resend_refund(held)
    await service.work()
    again = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(again), complete_payout(again))
    assert await statuses(service, offering, held) == (opb.Offering.REFUNDED, opb.Investment.CANCELLED)
    told = [len(await service.told(each)) for each in (events.InvestmentCancelling, events.OfferingRefunding)]
    assert told == [2, 2]


@pytest.mark.parametrize("is_raise", [True, False], ids=["a refunded raise", "a withdrawal"])
async def test_a_wire_that_comes_after_all_was_over_goes_back_and_meanwhile_nothing_says_that_it_is_over(
    service: DistributionsHarness, *, is_raise: bool
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    await (refund(service, offering) if is_raise else service.withdraw(held))
    over = (opb.Offering.REFUNDED if is_raise else opb.Offering.OPEN, opb.Investment.CANCELLED)
    goes_on = (opb.Offering.REFUNDING if is_raise else opb.Offering.OPEN, opb.Investment.CANCELLING)
    assert await statuses(service, offering, held) == over
    await service.fund(offering, held, 60_00)
    await service.work()
    assert await statuses(service, offering, held) == goes_on
    payout = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(payout), complete_payout(payout))
    assert await statuses(service, offering, held) == over
    assert (await service.get(offering)).committed_amount == usd(0)


@pytest.mark.parametrize("end", [return_payout, fail_payout, cancel_payout])
async def test_an_investment_is_not_cancelled_while_a_bank_has_a_debit_for_it(
    service: DistributionsHarness, end: Callable[..., Message]
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    drawn = service.at_the_bank(offering, held, 60_00)
    await service.withdraw(held)
    assert (await service.get(held)).status == opb.Investment.CANCELLING
    await service.deliver(end(drawn))
    await service.work()
    assert (await service.get(held)).status == opb.Investment.CANCELLED


async def test_what_waits_is_cancelled_by_transactions_before_an_investment_is_cancelled(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    waits = service.at_the_bank(offering, held, 60_00)
    waits.status = Txn.PENDING_APPROVAL
    service.wire.fail("CancelContributions", "lost")
    await service.withdraw(held)
    assert (await service.get(held)).status == opb.Investment.CANCELLING, "nobody knows what is on its way"
    await service.make_due()
    await service.work()
    assert waits.status == Txn.CANCELLED
    assert (await service.get(held)).status == opb.Investment.CANCELLED


async def test_a_debit_that_comes_back_of_a_withdrawn_investment_is_not_presented_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    drawn = service.at_the_bank(offering, held, 60_00)
    await service.withdraw(held)
    back = return_payout(drawn, "R01")
    drawn.status = Txn.PENDING_RETRY
    await service.deliver(back)
    assert (await service.get(held)).status == opb.Investment.CANCELLING, "it waits to be presented again"
    await service.work()
    assert drawn.status == Txn.CANCELLED
    assert (await service.get(held)).status == opb.Investment.CANCELLED


async def test_of_an_investment_that_a_closing_took_a_debit_that_comes_back_is_not_presented_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_00))
    held = (await service.positions(offering))["inv-001"]
    late = service.at_the_bank(offering, held, 5_00)
    back = return_payout(late, "R01")
    late.status = Txn.PENDING_RETRY
    await service.deliver(back)
    await service.work()
    assert late.status == Txn.CANCELLED
    assert (await service.get(held)).status == opb.Investment.ACTIVE


async def test_an_answer_that_is_older_than_what_was_heard_since_changes_nothing(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    drawn = service.at_the_bank(offering, held, 60_00)
    failed = Txn()
    failed.CopyFrom(drawn)
    await service.deliver(fail_payout(failed))
    await service.withdraw(held)
    assert (await service.get(held)).status == opb.Investment.CANCELLED


async def test_one_investment_of_which_nobody_knows_holds_up_no_other(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    altered, sound = [await service.invest(offering, name, 50_00, fund=False) for name in ("inv-001", "inv-002")]
    service.transactions.altered.add(altered.investment_id)
    await refund(service, offering)
    found = [(await service.get(each)).status for each in (altered, sound)]
    assert found == [opb.Investment.CANCELLING, opb.Investment.CANCELLED]
    service.transactions.altered.clear()
    await service.make_due()
    await service.work()
    assert await statuses(service, offering, altered) == (opb.Offering.REFUNDED, opb.Investment.CANCELLED)


async def test_what_is_to_come_in_and_what_is_to_go_back_is_told_of_an_investment_and_of_its_raise(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    settled, drawn = [service.at_the_bank(offering, held, minor) for minor in (20_00, 40_00)]
    settled.status = Txn.SETTLED
    settled.return_risk_end_time.CopyFrom(to_timestamp(CLOSING))

    async def told() -> tuple[Money, Money]:
        """To come in, and to go back."""
        one, all_of_it = await service.get(held), await service.get(offering)
        amounts = (one.incoming_amount, one.refundable_amount)
        assert (all_of_it.incoming_amount, all_of_it.refundable_amount) == amounts
        return amounts

    await service.deliver(service.arrived(settled))
    assert ((await service.get(held)).refundable_amount, (await service.get(held)).HasField("clear_time")) == (
        usd(0),
        False,
    )
    assert not (await service.get(offering)).HasField("refundable_amount"), "it takes money still"
    await refund(service, offering)
    assert await told() == (usd(40_00), usd(20_00))
    assert (await service.get(held)).clear_time == to_timestamp(CLOSING)

    await service.deliver(complete_payout(settled), return_payout(drawn, "R02"))
    await service.work()
    assert await told() == (usd(0), usd(20_00))
    assert not (await service.get(held)).HasField("clear_time")
    payout = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(payout), complete_payout(payout))
    assert await told() == (usd(0), usd(0))


async def refund(service: DistributionsHarness, offering: opb.Offering) -> None:
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    await service.call(service.offerings.RefundOffering, request)
    await service.work()


async def statuses(service: DistributionsHarness, offering: opb.Offering, held: opb.Investment) -> tuple[int, int]:
    return (await service.get(offering)).status, (await service.get(held)).status


@pytest.mark.parametrize("is_raise", [True, False], ids=["raise", "withdrawal"])
async def test_money_not_applied_yet_keeps_what_it_came_for_from_ending(
    service: DistributionsHarness, *, is_raise: bool
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 100_00, fund=False)
    frozen = service.contribution(offering, held, 60_00)
    await (refund(service, offering) if is_raise else service.withdraw(held))
    await service.work()
    await service.deliver(service.arrived(frozen, "unapplied"), complete_payout(frozen))
    waits = (opb.Offering.REFUNDING if is_raise else opb.Offering.OPEN, opb.Investment.CANCELLING)
    assert await statuses(service, offering, held) == waits
    read = await service.get(held)
    assert (read.incoming_amount, read.unapplied_amount, read.refundable_amount) == (usd(60_00), usd(60_00), usd(0))
    if is_raise:
        assert (await service.get(offering)).incoming_amount == usd(60_00)
    moved, account = {"investment_id": held.investment_id}, offering.escrow_account_id
    await service.deliver(
        service.escrow.post(account, Entry.ADJUSTMENT, "unapplied:inv-001", "subscription:inv-001", 60_00, **moved)
    )
    read = await service.get(held)
    assert (read.incoming_amount, read.unapplied_amount, read.refundable_amount) == (usd(0), usd(0), usd(60_00))
    assert await statuses(service, offering, held) == waits
