"""Money that arrived in a frozen escrow account, and money of one investment that goes for another of its party."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import pytest
import sqlalchemy as sa
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.events_pb2 import JournalEntriesPosted

from services.chassis.data.database import Database
from tests.support.distributions import CLOSING, ORG, DistributionsHarness, Entry
from tests.support.money import usd
from tests.support.peers.transactions import Txn, complete_payout, return_payout


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


def taken_back(service: DistributionsHarness, drawn: Txn, of: str = "subscription") -> JournalEntriesPosted:
    return post(service, drawn, Entry.RETURN, f"{of}:{drawn.party_id}", "cash", transaction_id=drawn.transaction_id)


def given_again(service: DistributionsHarness, drawn: Txn, of: str = "subscription") -> JournalEntriesPosted:
    """A return that was none, reversed by hand."""
    return post(service, drawn, Entry.REVERSAL, "cash", f"{of}:{drawn.party_id}", transaction_id=drawn.transaction_id)


def applied_by_hand(service: DistributionsHarness, drawn: Txn) -> JournalEntriesPosted:
    return post(service, drawn, Entry.ADJUSTMENT, f"unapplied:{drawn.party_id}", f"subscription:{drawn.party_id}")


def post(
    service: DistributionsHarness, drawn: Txn, kind: int, debited: str, credited: str, **context: str
) -> JournalEntriesPosted:
    account, minor = drawn.escrow_account_id, drawn.amount.amount_minor
    return service.escrow.post(account, kind, debited, credited, minor, investment_id=drawn.investment_id, **context)


async def invest_and_withdraw(
    service: DistributionsHarness, offering: opb.Offering, minor: int
) -> tuple[opb.Investment, Txn]:
    """What was drawn for the investment has been given back."""
    gone = await service.invest(offering, "inv-001", minor, fund=False)
    drawn = service.contribution(offering, gone, minor)
    await service.deliver(service.arrived(drawn), complete_payout(drawn))
    await service.withdraw(gone)
    refunded = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(refunded), complete_payout(refunded))
    return gone, drawn


async def test_a_return_that_was_owed_and_is_reversed_by_hand_makes_the_contribution_count_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    gone, drawn = await invest_and_withdraw(service, offering, 30_00)
    await service.deliver(return_payout(drawn), taken_back(service, drawn, "returns_receivable"))
    await service.deliver(given_again(service, drawn, "returns_receivable"))
    late = service.contribution(offering, gone, 5_00)
    await service.deliver(service.arrived(late), complete_payout(late))
    await service.work()
    assert service.transactions.newest("inv-001").amount == usd(5_00)


@pytest.mark.parametrize(
    ("settled_from", "named"),
    [("cash", True), ("cash", False), ("distributable", True), ("subscription:inv-001", True)],
)
async def test_what_was_owed_and_is_settled_keeps_no_later_money_from_clearing(
    service: DistributionsHarness, settled_from: str, *, named: bool
) -> None:
    offering = await service.offering(80_00, maximum_amount=usd(200_00))
    await service.invest(offering, "inv-002", 40_00)
    _, refunded = await invest_and_withdraw(service, offering, 40_00)
    held = await service.invest(offering, "inv-001", 40_00, fund=False)
    paid = await service.fund(offering, held, 40_00)
    # The return of what was refunded takes this one's money, so its own return is owed.
    await service.deliver(taken_back(service, refunded), return_payout(refunded))
    await service.deliver(taken_back(service, paid, "returns_receivable"), return_payout(paid))
    read = await service.get(held)
    assert (read.funded_amount, read.cleared_amount, read.receivable_amount) == (usd(0), usd(0), usd(40_00))

    if settled_from.startswith("subscription"):
        await service.fund(offering, held, 40_00)
    if not named:
        paid.ClearField("investment_id")
    await service.deliver(post(service, paid, Entry.ADJUSTMENT, settled_from, "returns_receivable:inv-001"))
    await service.fund(offering, held, 40_00)
    read = await service.get(held)
    assert (read.funded_amount, read.receivable_amount) == (usd(40_00), usd(0 if named else 40_00))
    service.clock.set(CLOSING)
    request = opb.GetClosingGatesRequest(offering_id=offering.offering_id)
    assert (await service.call(service.offerings.GetClosingGates, request)).all_passed


async def test_money_not_applied_that_the_bank_takes_back_ends_what_it_came_for(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 100_00, fund=False)
    frozen = service.contribution(offering, held, 60_00)
    await service.withdraw(held)
    await service.deliver(service.arrived(frozen, "unapplied"))
    assert (await service.get(held)).status == opb.Investment.CANCELLING
    await service.deliver(taken_back(service, frozen, "unapplied"), return_payout(frozen))
    await service.work()
    assert (await service.get(held)).status == opb.Investment.CANCELLED


async def test_money_that_somebody_applies_by_hand_counts_once(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 100_00, fund=False)
    frozen = service.contribution(offering, held, 60_00)
    await service.deliver(service.arrived(frozen, "unapplied"), complete_payout(frozen))
    assert (await service.get(held)).cleared_amount == usd(0)
    await service.deliver(applied_by_hand(service, frozen))
    await service.fund(offering, held, 40_00, clear=False)
    read = await service.get(held)
    assert (read.funded_amount, read.cleared_amount) == (usd(100_00), usd(60_00))


async def test_what_the_bank_takes_back_of_a_refunded_investment_another_of_the_party_makes_up_for(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    gone, drawn = await invest_and_withdraw(service, offering, 40_00)
    kept = await service.invest(offering, "inv-001", 50_00)
    other = await service.invest(offering, "inv-002", 10_00)
    await service.deliver(taken_back(service, drawn), return_payout(drawn))
    await service.work()

    seen = [await service.get(each) for each in (gone, kept, other)]
    assert [each.funded_amount for each in seen] == [usd(0), usd(10_00), usd(10_00)]
    assert [each.cleared_amount for each in seen] == [usd(0), usd(10_00), usd(10_00)]
    assert [each.status for each in seen[:2]] == [opb.Investment.CANCELLED, opb.Investment.PENDING]
    assert (await service.get(offering)).funded_amount == usd(20_00)
    await service.withdraw(kept)
    assert service.transactions.newest("inv-001").amount == usd(10_00)

    # A return that was none is undone: what each had is its own again.
    await service.deliver(given_again(service, drawn))
    assert [(await service.get(each)).funded_amount for each in (gone, kept)] == [usd(0), usd(50_00)]


async def test_who_decides_on_a_closing_is_told_of_money_that_it_leaves_out(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00, maximum_amount=usd(250_00))
    await service.invest(offering, "inv-001", 100_00)
    left_out = await service.invest(offering, "inv-002", 65_00, fund=False)
    await service.deliver(service.arrived(service.contribution(offering, left_out, 50_00), "unapplied"))
    not_paid = await service.invest(offering, "inv-003", 40_00, fund=False)
    service.clock.set(CLOSING)
    request = opb.CloseOfferingRequest(offering_id=offering.offering_id)
    asked = await service.ask(service.offerings.CloseOffering, request)
    told = {each.rule: each for each in asked.explanations}
    gates = await service.call(
        service.offerings.GetClosingGates, opb.GetClosingGatesRequest(offering_id=offering.offering_id)
    )
    assert list(gates.left_out) == [told["MONEY_NOT_APPLIED"], told["MONEY_NOT_COME"]]
    assert told["MONEY_NOT_APPLIED"].statement.startswith("50.00 USD of inv-002 arrived while")
    assert told["MONEY_NOT_COME"].statement.startswith("55.00 USD that inv-002, inv-003 committed has not come")
    assert {each.name: each.value for each in told["MONEY_NOT_APPLIED"].operands} == {
        left_out.investment_id: "50.00 USD"
    }
    assert {each.name: each.value for each in told["MONEY_NOT_COME"].operands} == {
        left_out.investment_id: "15.00 USD",
        not_paid.investment_id: "40.00 USD",
    }


@pytest.mark.parametrize("completed", [False, True], ids=["before its risk was over", "after it"])
async def test_a_return_of_money_not_applied_that_was_none_leaves_it_to_be_applied_and_cleared(
    service: DistributionsHarness, *, completed: bool
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    drawn = service.contribution(offering, held, 60_00)
    await service.deliver(service.arrived(drawn, "unapplied"))
    if completed:
        await service.deliver(complete_payout(drawn))
    await service.deliver(taken_back(service, drawn, "unapplied"), return_payout(drawn))
    await service.deliver(given_again(service, drawn, "unapplied"), applied_by_hand(service, drawn))
    read = await service.get(held)
    assert (read.funded_amount, read.cleared_amount, read.unapplied_amount) == (usd(60_00), usd(60_00), usd(0))
    await service.withdraw(held)
    assert service.transactions.newest("inv-001").amount == usd(60_00)


async def test_what_made_up_for_a_closing_that_was_refused_goes_back_after_it(service: DistributionsHarness) -> None:
    offering = await service.offering(80_00, maximum_amount=usd(200_00))
    _, drawn = await invest_and_withdraw(service, offering, 40_00)
    await service.invest(offering, "inv-001", 50_00)
    await service.invest(offering, "inv-002", 50_00)
    leaving = await service.invest(offering, "inv-001", 20_00, fund=False)
    at_risk = await service.fund(offering, leaving, 20_00, clear=False)
    await service.withdraw(leaving)
    service.clock.set(CLOSING)
    await service.close(offering)
    await service.deliver(taken_back(service, drawn), return_payout(drawn), complete_payout(at_risk))
    assert (await service.get(leaving)).status == opb.Investment.CANCELLED
    await service.work()
    assert (await service.get(offering)).status == opb.Offering.OPEN
    assert (await service.get(leaving)).status == opb.Investment.CANCELLING
    assert service.transactions.newest("inv-001").amount == usd(20_00)


async def test_a_closing_that_was_refused_leaves_what_the_bank_took_back_meanwhile_out_of_what_is_funded(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(80_00, maximum_amount=usd(200_00))
    _, drawn = await invest_and_withdraw(service, offering, 40_00)
    kept = await service.invest(offering, "inv-001", 50_00)
    await service.invest(offering, "inv-002", 50_00)
    service.clock.set(CLOSING)
    await service.close(offering)
    await service.deliver(taken_back(service, drawn), return_payout(drawn))
    await service.work()
    read = await service.get(offering)
    assert (read.status, read.closing_failure.code) == (opb.Offering.OPEN, "INSUFFICIENT_AVAILABLE_BALANCE")
    assert (read.funded_amount, (await service.get(kept)).funded_amount) == (usd(60_00), usd(10_00))


async def test_no_login_puts_back_what_a_contribution_was_before_its_return(service: DistributionsHarness) -> None:
    offering = await service.offering(50_00)
    held = await service.invest(offering, "inv-001", 50_00, fund=False)
    drawn = service.contribution(offering, held, 50_00)
    await service.deliver(service.arrived(drawn))
    kept = ("booked_minor", "came_back", "version", "seal")
    async with service.database.begin(ORG) as tx:
        [before] = (await tx.execute(sa.text(f"SELECT {', '.join(kept)} FROM contributions"))).all()
    await service.deliver(taken_back(service, drawn))
    putting_back = sa.text(f"UPDATE contributions SET {', '.join(f'{name} = :{name}' for name in kept)}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with service.database.begin(ORG) as tx:
            await tx.execute(putting_back, {name: getattr(before, name) for name in kept})
    await service.deliver(return_payout(drawn, "R01"), service.arrived(drawn), complete_payout(drawn))
    assert (await service.get(held)).cleared_amount == usd(50_00)
