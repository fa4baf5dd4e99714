"""Money that arrives when nobody wants it any more: after a closing, a withdrawal, or the end of a raise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb

from services.chassis.data.database import Database
from tests.support.distributions import DistributionsHarness
from tests.support.money import usd
from tests.support.peers.transactions import complete_payout, fail_payout


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
    under_way = service.contribution(offering, held, 100_00)
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    assert (await service.call(service.offerings.RefundOffering, request)).status == opb.Offering.REFUNDED
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
    assert (await service.get(held)).status == opb.Investment.CANCELLED
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
