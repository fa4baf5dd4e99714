"""Money that goes back: of a raise that failed, of a withdrawal, of what came too late; and money that came back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb
from realco.distributions.v1.payout_orders_pb2 import BatchGetPayoutOrdersRequest
from realco.escrow.v1.events_pb2 import JournalEntriesPosted
from realco.escrow.v1.journal_pb2 import JournalEntry as Entry
from realco.transactions.v1.transactions_pb2 import Transaction as Txn
from realco.type.v1.approval_pb2 import Approval

from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError
from services.chassis.values.refusals import IllegalStatusChange
from services.distributions.domain.refusals import NothingToResend
from tests.support.distributions import CLOSING, START, DistributionsHarness
from tests.support.money import usd
from tests.support.peers.transactions import complete_payout, fail_payout, return_payout


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def test_commitments_that_nothing_was_paid_on_miss_the_closing(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00, maximum_amount=usd(200_00))
    await service.invest(offering, "inv-001", 100_00)
    await service.invest(offering, "inv-002", 50_00, fund=False)
    service.clock.set(CLOSING)
    await service.close(offering)
    await service.work()
    statuses = {investor: held.status for investor, held in (await service.positions(offering)).items()}
    assert statuses == {"inv-001": opb.Investment.ACTIVE, "inv-002": opb.Investment.CANCELLED}
    assert (await service.get(offering)).committed_amount == usd(100_00)


@pytest.mark.parametrize("end", [fail_payout, return_payout])
async def test_money_that_could_not_go_back_after_the_closing_is_sent_again_when_somebody_asks(
    service: DistributionsHarness, end: Callable[..., object]
) -> None:
    offering = await service.closed_offering(("inv-001", 100_00))
    held = (await service.positions(offering))["inv-001"]
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    with pytest.raises(IllegalStatusChange):  # what the closing took is not withdrawn
        await service.call(service.investments.CancelInvestment, request)
    await service.fund(offering, held, 5_00)
    await service.work()
    first = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(first), end(first), service.bounced(first))
    assert await service.work() == 0, "nothing is sent to the same account again by itself"
    again = opb.ResendRefundRequest(investment_id=held.investment_id)
    await service.grant(await service.ask(service.investments.ResendRefund, again))
    assert (await service.get(held)).status == opb.Investment.ACTIVE
    await service.work()
    second = service.transactions.newest("inv-001")
    assert sorted(await service.decided_by_two()) == [False, True], (
        "nobody asked for the first; for the second, two did"
    )
    assert (second.amount.amount_minor, second.transaction_id != first.transaction_id) == (5_00, True)
    await service.deliver(service.gave_back(second), complete_payout(second))
    after = (await service.positions(offering))["inv-001"]
    assert (after.status, after.funded_amount) == (opb.Investment.ACTIVE, usd(100_00))
    with pytest.raises(NothingToResend):
        await service.resend_refund(held)


async def test_a_failed_raise_gives_every_contribution_back_once_it_is_cleared(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    first = await service.invest(offering, "inv-001", 60_00)
    second = await service.invest(offering, "inv-002", 20_00, fund=False)
    late = await service.fund(offering, second, 20_00, clear=False)
    await service.invest(offering, "inv-003", 10_00, fund=False)
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    await service.grant(await service.ask(service.offerings.RefundOffering, request))
    assert (await service.get(offering)).status == opb.Offering.REFUNDING
    await service.work()
    assert (await service.positions(offering))["inv-003"].status == opb.Investment.CANCELLED
    assert {p.party_id for p in service.transactions.by_key.values()} == {"inv-001"}, "the other may still come back"
    assert await service.decided_by_two() == [True]
    await service.deliver(complete_payout(late))
    assert await service.decided_by_two() == [True, True]
    for investor in ("inv-001", "inv-002"):
        payout = service.transactions.newest(investor)
        # The two streams have no common order: the end of the payout may be told before its booking.
        booked, ended = service.gave_back(payout), complete_payout(payout)
        await service.deliver(*((ended, booked) if investor == "inv-001" else (booked, ended)))
        await service.work()
    after = await service.get(offering)
    assert (after.status, after.funded_amount, after.committed_amount) == (opb.Offering.REFUNDED, usd(0), usd(0))
    assert len(service.transactions.by_key) == 2
    assert (await service.get(first)).status == opb.Investment.CANCELLED
    assert len(await service.told(events.OfferingRefunded)) == 1
    assert len(await service.told(events.InvestmentCancelled)) == 3


@pytest.mark.parametrize("end", [fail_payout, return_payout])
async def test_a_refund_that_failed_waits_for_a_person_who_asks_again(
    service: DistributionsHarness, end: Callable[..., object]
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00)
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    await service.call(service.offerings.RefundOffering, request)
    await service.work()
    payout = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(payout), end(payout), service.bounced(payout))
    service.clock.advance(timedelta(days=3))
    assert await service.work() == 0
    assert (await service.get(offering)).status == opb.Offering.REFUNDING
    await service.resend_refund(held)
    await service.work()
    again = service.transactions.newest("inv-001")
    assert again.transaction_id != payout.transaction_id
    await service.deliver(service.gave_back(again), complete_payout(again))
    assert (await service.get(offering)).status == opb.Offering.REFUNDED


@pytest.mark.parametrize("is_whole", [False, True], ids=["one investment", "the whole offering"])
async def test_what_was_on_its_way_when_two_persons_gave_10_back_is_no_part_of_what_they_decided(
    service: DistributionsHarness, is_whole: bool
) -> None:
    offering = await service.offering(2_000_000_00)
    held = await service.invest(offering, "inv-001", 1_500_000_00, fund=False)
    seen = await service.fund(offering, held, 10_00, clear=False)
    coming = service.contribution(offering, held, 1_490_000_00)
    every = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the sale fell through")
    one = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    wanted = (service.offerings.RefundOffering, every) if is_whole else (service.investments.CancelInvestment, one)
    asked = await service.ask(*wanted)
    assert (asked.amount, list(asked.beneficiary_party_ids)) == (usd(10_00), ["inv-001"])
    assert (await service.grant(asked)).status == Approval.EXECUTED
    await service.deliver(service.arrived(coming), complete_payout(coming), complete_payout(seen))
    assert await service.decided_by_two() == [False], "a second person decides, by the rules of 1,490,010.00"
    assert service.transactions.newest("inv-001").amount == usd(1_490_010_00)


async def test_what_two_persons_decided_on_goes_once_and_nothing_that_comes_takes_its_place(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    kept, swapped = [await service.invest(offering, name, 50_00, fund=False) for name in ("inv-001", "inv-002")]
    seen = {each.party_id: await service.fund(offering, each, 10_00, clear=False) for each in (kept, swapped)}
    for each in (kept, swapped):
        request = opb.CancelInvestmentRequest(investment_id=each.investment_id)
        await service.grant(await service.ask(service.investments.CancelInvestment, request))
    await service.deliver(complete_payout(seen["inv-001"]))
    assert await service.decided_by_two() == [True]
    first = service.transactions.newest("inv-001")
    await service.fund(offering, kept, 10_00)
    await service.deliver(service.gave_back(first), complete_payout(first))
    assert await service.decided_by_two() == [True, False]
    # The bank takes the one back that they saw, and another one of the same amount comes in.
    gone = {"transaction_id": seen["inv-002"].transaction_id, "investment_id": swapped.investment_id}
    legs = ("subscription:inv-002", "cash", 10_00)
    await service.fund(offering, swapped, 10_00)
    await service.deliver(
        service.escrow.post(offering.escrow_account_id, Entry.RETURN, *legs, **gone), return_payout(seen["inv-002"])
    )
    assert await service.decided_by_two() == [True, False, False]


async def test_an_investor_withdraws_until_48_hours_before_the_deadline(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    early = await service.invest(offering, "inv-001", 60_00)
    late = await service.invest(offering, "inv-002", 40_00)
    request = opb.CancelInvestmentRequest(investment_id=early.investment_id)
    asked = await service.call(service.investments.CancelInvestment, request, "inv-001", "investor")
    assert (asked.status, list(asked.allowed_actions)) == (opb.Investment.CANCELLING, []), "the money goes back first"
    assert await service.decided_by_two() == [False]
    request.idempotency_key = "again"
    repeated = await service.call(service.investments.CancelInvestment, request, "inv-001", "investor")
    assert (repeated.status, repeated.etag) == (opb.Investment.CANCELLING, (await service.get(early)).etag)
    wanted = opb.ListInvestmentsRequest(status=[opb.Investment.CANCELLING])
    listed = (await service.call(service.investments.ListInvestments, wanted)).investments
    assert [each.investment_id for each in listed] == [early.investment_id]
    # What was on its way all the same goes back with the rest.
    await service.fund(offering, early, 5_00)
    await service.work()
    for _ in (60_00, 5_00):
        payout = service.transactions.newest("inv-001")
        await service.deliver(service.gave_back(payout), complete_payout(payout))
        await service.work()
    assert sum(each.amount.amount_minor for each in service.transactions.by_key.values()) == 65_00
    assert (await service.get(early)).status == opb.Investment.CANCELLED
    [told] = await service.told(events.InvestmentCancelling)
    assert told.investment.status == opb.Investment.CANCELLING
    assert len(await service.told(events.InvestmentCancelled)) == 1
    assert (await service.get(offering)).committed_amount == usd(40_00)
    service.clock.set(START + timedelta(days=43, seconds=1))
    request = opb.CancelInvestmentRequest(investment_id=late.investment_id)
    with pytest.raises(DomainError) as refusal:
        await service.call(service.investments.CancelInvestment, request, "inv-002", "investor")
    assert refusal.value.reason == "CANCELLATION_WINDOW_OVER"


async def test_two_persons_of_staff_end_an_investment_when_its_investor_no_longer_may(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00)
    service.clock.set(START + timedelta(days=46))  # after the deadline
    request = opb.GetInvestmentRequest(investment_id=held.investment_id)
    for role, actions in (("investor", []), ("admin", ["cancel"])):
        read = await service.call(service.investments.GetInvestment, request, "inv-001", role)
        assert list(read.allowed_actions) == actions
    cancel = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.grant(await service.ask(service.investments.CancelInvestment, cancel))
    assert (await service.get(held)).status == opb.Investment.CANCELLING


def take_back(service: DistributionsHarness, paid: Txn) -> JournalEntriesPosted:
    """Escrow's entry when the bank takes a contribution back that is still in escrow."""
    return service.escrow.post(
        paid.escrow_account_id,
        Entry.RETURN,
        f"subscription:{paid.party_id}",
        "cash",
        paid.amount.amount_minor,
        transaction_id=paid.transaction_id,
        investment_id=paid.investment_id,
    )


async def test_a_contribution_that_comes_back_is_neither_funded_nor_cleared(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    paid = await service.fund(offering, held, 60_00)
    assert (await service.get(held)).cleared_amount == usd(60_00)
    await service.deliver(return_payout(paid), take_back(service, paid))
    after = await service.get(held)
    assert (after.funded_amount, after.cleared_amount) == (usd(0), usd(0))
    assert (await service.get(offering)).funded_amount == usd(0)


async def test_a_contribution_that_comes_back_after_the_closing_is_owed_by_its_investor_and_stays_capital(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 100_00, fund=False)
    paid = await service.fund(offering, held, 100_00)
    service.clock.set(CLOSING)
    await service.close(offering)
    await service.work()
    # The subscription is empty by now, so escrow debits a receivable: no entry takes the funding back.
    back = service.escrow.post(
        offering.escrow_account_id,
        Entry.RETURN,
        "returns_receivable:inv-001",
        "cash",
        100_00,
        transaction_id=paid.transaction_id,
        investment_id=held.investment_id,
    )
    ordered = len(service.transactions.by_key)
    await service.deliver(return_payout(paid, "R10"), back)
    await service.work()
    assert len(service.transactions.by_key) == ordered, "nothing is given back of what the bank took back"
    after = await service.get(held)
    assert (after.status, after.funded_amount) == (opb.Investment.ACTIVE, usd(100_00))
    assert (after.cleared_amount, after.unreturned_capital) == (usd(0), usd(100_00))
    assert (await service.get(offering)).funded_amount == usd(100_00)


async def test_a_refund_that_transactions_refuses_says_why_on_the_investment_until_it_is_sent_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00)
    service.transactions.without_bank_account.add("inv-001")
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.call(service.investments.CancelInvestment, request, "inv-001", "investor")
    await service.work()
    assert (await service.get(held)).refund_failure.code == "NO_PAYOUT_BANK_ACCOUNT"
    service.transactions.without_bank_account.remove("inv-001")
    request.idempotency_key = ""
    repeated = await service.call(service.investments.CancelInvestment, request, "inv-001", "investor")
    assert repeated.etag == (await service.get(held)).etag, "it is withdrawn already, and sends nothing"
    again = await service.resend_refund(held, "inv-001", "investor")
    assert not again.HasField("refund_failure"), "what the last attempt met says nothing of the one under way"
    await service.work()
    payout = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(payout), complete_payout(payout))
    after = await service.get(held)
    assert (after.status, after.HasField("refund_failure")) == (opb.Investment.CANCELLED, False)


async def test_a_refund_that_failed_is_not_sent_again_while_money_that_came_since_may_still_come_back(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00)
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.call(service.investments.CancelInvestment, request)
    await service.work()
    first = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(first), fail_payout(first), service.bounced(first))
    late = await service.fund(offering, held, 5_00, clear=False)
    assert "resend_refund" not in (await service.get(held)).allowed_actions
    with pytest.raises(NothingToResend):
        await service.resend_refund(held)
    await service.deliver(complete_payout(late))
    await service.resend_refund(held)
    await service.work()
    assert service.transactions.newest("inv-001").amount == usd(65_00)


async def test_an_entry_by_hand_counts_for_the_investment_it_names_if_the_subscription_is_its_investors(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)

    async def move(debit: str, credit: str, minor: int, investment: opb.Investment) -> opb.Investment:
        account, named = offering.escrow_account_id, investment.investment_id
        await service.deliver(service.escrow.post(account, Entry.ADJUSTMENT, debit, credit, minor, investment_id=named))
        return await service.get(investment)

    after = await move("suspense", "subscription:inv-001", 60_00, held)
    assert (after.funded_amount, after.cleared_amount) == (usd(60_00), usd(60_00))
    after = await move("suspense", "subscription:inv-002", 40_00, held)
    assert (after.funded_amount, (await service.get(offering)).funded_amount) == (usd(60_00), usd(60_00))
    elsewhere = await service.invest(await service.offering(100_00), "inv-001", 10_00, fund=False)
    assert (await move("suspense", "subscription:inv-001", 10_00, elsewhere)).funded_amount == usd(0)
    after = await move("subscription:inv-001", "cash", 20_00, held)
    assert (after.funded_amount, after.cleared_amount) == (usd(40_00), usd(40_00))
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.call(service.investments.CancelInvestment, request, "inv-001", "investor")
    await service.work()
    assert service.transactions.newest("inv-001").amount == usd(40_00), "what went back by hand is not refunded again"


async def test_a_return_that_is_reversed_by_hand_makes_the_contribution_count_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    paid = await service.fund(offering, held, 60_00)
    legs, account = ("subscription:inv-001", "cash"), offering.escrow_account_id
    named = {"transaction_id": paid.transaction_id, "investment_id": held.investment_id}
    await service.deliver(return_payout(paid), service.escrow.post(account, Entry.RETURN, *legs, 60_00, **named))
    assert (await service.get(held)).funded_amount == usd(0)
    await service.deliver(service.escrow.post(account, Entry.REVERSAL, *legs[::-1], 60_00, **named))
    after = await service.get(held)
    assert (after.funded_amount, after.cleared_amount) == (usd(60_00), usd(60_00))
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.call(service.investments.CancelInvestment, request, "inv-001", "investor")
    await service.work()
    assert service.transactions.newest("inv-001").amount == usd(60_00)


async def test_what_persons_posted_for_a_party_is_said_of_each_refund_to_it(service: DistributionsHarness) -> None:
    """Its investments make up for one another; and of what a login altered nobody says anything."""
    offering = await service.offering(100_00)
    first = await service.invest(offering, "inv-001", 40_00)
    second = await service.invest(offering, "inv-001", 10_00)
    other = await service.invest(offering, "inv-002", 20_00)
    account, credited = offering.escrow_account_id, "subscription:inv-001"
    posted = service.escrow.post(account, Entry.DEPOSIT, "cash", credited, 5_00, investment_id=first.investment_id)
    await service.deliver(posted)

    async def read_orders() -> dict[str, tuple[bool, bool]]:
        request = BatchGetPayoutOrdersRequest(idempotency_keys=list(service.transactions.by_key))
        orders = (await service.call(service.payout_orders.BatchGetPayoutOrders, request)).payout_orders
        return {each.investment_id: (each.HasField("released_amount"), each.has_entries_by_hand) for each in orders}

    for held in (second, other):
        request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
        await service.call(service.investments.CancelInvestment, request, held.party_id, "investor")
    await service.work()
    assert await read_orders() == {second.investment_id: (True, True), other.investment_id: (True, False)}
    async with service.database.begin_for_all() as tx:
        forged = "UPDATE investments SET has_entries_by_hand = false, version = version + 1 WHERE investment_id = :id"
        await tx.execute(sa.text(forged), {"id": first.investment_id})
    assert await read_orders() == {second.investment_id: (False, False), other.investment_id: (True, False)}
