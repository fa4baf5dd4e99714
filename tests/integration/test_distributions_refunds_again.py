"""Refunds of a raise that failed are sent again together: of exactly what two persons saw, to where it came from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realco.distributions.v1 import offerings_pb2 as opb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError
from services.chassis.values.refusals import IllegalStatusChange
from services.distributions.domain.refusals import NothingToResend
from tests.support.distributions import DistributionsHarness
from tests.support.money import usd
from tests.support.peers.transactions import complete_payout, fail_payout


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def test_refunding_a_raise_again_sends_each_refund_again_that_failed_as_two_persons_saw_them(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    for investor, minor in (("inv-001", 40_00), ("inv-002", 35_00), ("inv-003", 25_00)):
        await service.invest(offering, investor, minor)
    service.transactions.without_bank_account.add("inv-002")
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    await service.call(service.offerings.RefundOffering, request)
    await service.work()
    first, paid = (service.transactions.newest(each) for each in ("inv-001", "inv-003"))
    await service.deliver(service.gave_back(first), fail_payout(first), service.bounced(first))
    await service.deliver(service.gave_back(paid), complete_payout(paid))

    request.idempotency_key = "again"
    asked = await service.ask(service.offerings.RefundOffering, request)
    assert (asked.amount, set(asked.beneficiary_party_ids)) == (usd(75_00), {"inv-001", "inv-002"})
    [told] = [each for each in asked.explanations if each.rule == "AMOUNTS_OWED"]
    held = await service.positions(offering)
    assert {each.name: each.value for each in told.operands} == {
        held["inv-001"].investment_id: "40.00 USD, DECLINED_BY_PROVIDER",
        held["inv-002"].investment_id: "35.00 USD, NO_PAYOUT_BANK_ACCOUNT",
    }
    [why] = [each for each in asked.explanations if each.rule == "LAST_ATTEMPT"]
    assert {each.name: each.value for each in why.operands} == {
        held["inv-001"].investment_id: "DECLINED_BY_PROVIDER, R03 it is",
        held["inv-002"].investment_id: "NO_PAYOUT_BANK_ACCOUNT, The party has no confirmed bank account for payouts.",
    }
    assert (await service.grant(asked)).status == Approval.EXECUTED
    assert await service.decided_by_two() == [False, False, True]
    again = service.transactions.newest("inv-001")
    assert (again.transaction_id != first.transaction_id, again.bank_account_id) == (True, "")
    held = await service.positions(offering)
    assert held["inv-002"].refund_failure.code == "NO_PAYOUT_BANK_ACCOUNT", "that one stays, and the other goes"
    await service.deliver(service.gave_back(again), complete_payout(again))

    service.transactions.without_bank_account.clear()
    request.idempotency_key = "once more"
    await service.call(service.offerings.RefundOffering, request)
    await service.work()
    last = service.transactions.newest("inv-002")
    request.idempotency_key = "too soon"
    with pytest.raises(NothingToResend):
        await service.call(service.offerings.RefundOffering, request)
    await service.deliver(service.gave_back(last), complete_payout(last))
    assert (await service.get(offering)).status == opb.Offering.REFUNDED
    request.idempotency_key = "all has gone"
    with pytest.raises(IllegalStatusChange):
        await service.call(service.offerings.RefundOffering, request)


async def test_a_yes_to_refunds_that_are_sent_again_is_one_to_exactly_these(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    for investor in ("inv-001", "inv-002"):
        await service.invest(offering, investor, 50_00)
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    await service.call(service.offerings.RefundOffering, request)
    await service.work()
    first, second = (service.transactions.newest(each) for each in ("inv-001", "inv-002"))
    await service.deliver(service.gave_back(first), fail_payout(first), service.bounced(first))
    request.idempotency_key = "again"
    asked = await service.ask(service.offerings.RefundOffering, request)
    await service.deliver(service.gave_back(second), fail_payout(second), service.bounced(second))
    with pytest.raises(DomainError) as refusal:
        await service.grant(asked)
    assert refusal.value.reason == "CONTENT_OUTDATED"
