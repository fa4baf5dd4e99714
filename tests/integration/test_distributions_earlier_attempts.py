"""Why an earlier attempt to pay came to nothing is found by whoever decides about the next, whoever asked for it."""

from __future__ import annotations

from typing import Any

import pytest
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb

from tests.support.distributions import DistributionsHarness
from tests.support.peers.transactions import complete_payout, fail_payout, return_payout


@pytest.fixture
async def service(service_database: Any) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def withdraw(service: DistributionsHarness) -> tuple[opb.Offering, opb.Investment]:
    """A withdrawal whose refund a second person refused."""
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00)
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.call(service.investments.CancelInvestment, request, "inv-001", "investor")
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("inv-001"), "REJECTED"))
    return offering, held


async def send_elsewhere(service: DistributionsHarness, held: opb.Investment) -> opb.Investment:
    """By its investor alone."""
    account = service.transactions.add_bank_account("inv-001")
    request = opb.ResendRefundRequest(investment_id=held.investment_id, bank_account_id=account)
    await service.call(service.investments.ResendRefund, request, "inv-001", "investor")
    await service.work()
    return await service.get(held)


def read_codes(read: opb.Investment) -> list[str]:
    return [each.metadata["network_code"] for each in read.earlier_refund_failures]


def read_told(approval: Any) -> dict[str, Any]:
    return {each.rule: each for each in approval.explanations}


async def test_an_investor_who_has_a_refund_sent_elsewhere_alone_removes_no_earlier_failure_from_the_investment(
    service: DistributionsHarness,
) -> None:
    _, held = await withdraw(service)
    assert ((await service.get(held)).refund_failure.message, read_codes(await service.get(held))) == (
        "REJECTED it is",
        [],
    )
    again = await send_elsewhere(service, held)
    assert (again.HasField("refund_failure"), read_codes(again)) == (False, ["REJECTED"])
    payout = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(payout), complete_payout(payout))
    await service.deliver(return_payout(payout, "R03"), service.bounced(payout))
    back = await service.get(held)
    assert (back.refund_failure.metadata["network_code"], read_codes(back)) == ("R03", ["REJECTED"])
    again = await send_elsewhere(service, held)
    assert (again.HasField("refund_failure"), read_codes(again)) == (False, ["R03", "REJECTED"])
    payout = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(payout), complete_payout(payout))
    paid = await service.get(held)
    assert (paid.status, read_codes(paid)) == (opb.Investment.CANCELLED, ["R03", "REJECTED"])


async def test_whoever_decides_that_a_refund_goes_again_reads_why_each_attempt_before_came_to_nothing(
    service: DistributionsHarness,
) -> None:
    _, held = await withdraw(service)
    asking = opb.ResendRefundRequest(investment_id=held.investment_id)
    first = read_told(await service.ask(service.investments.ResendRefund, asking))
    assert ("LAST_ATTEMPT" in first, "EARLIER_ATTEMPTS" in first) == (True, False)
    await send_elsewhere(service, held)
    await service.deliver(fail_payout(service.transactions.newest("inv-001"), "R03"))
    asking = opb.ResendRefundRequest(investment_id=held.investment_id)
    told = read_told(await service.ask(service.investments.ResendRefund, asking))
    assert "R03 it is" in told["LAST_ATTEMPT"].statement
    assert told["EARLIER_ATTEMPTS"].statement == "Before the last one that came to nothing, 1 attempt did."
    [earlier] = told["EARLIER_ATTEMPTS"].operands
    assert (earlier.name, "REJECTED it is" in earlier.value) == ("attempt 1", True)


async def test_whoever_decides_that_all_refunds_of_an_offering_go_again_reads_every_attempt(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    await service.grant(await service.ask(service.offerings.RefundOffering, request))
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("inv-001"), "R02"))
    await send_elsewhere(service, held)
    await service.deliver(fail_payout(service.transactions.newest("inv-001"), "R03"))
    request.idempotency_key = ""
    told = read_told(await service.ask(service.offerings.RefundOffering, request))
    [earlier] = told["EARLIER_ATTEMPTS"].operands
    assert (earlier.name, "attempt 1: " in earlier.value, "R02 it is" in earlier.value) == (
        held.investment_id,
        True,
        True,
    )


async def test_whoever_decides_that_an_allocation_or_proceeds_are_paid_again_reads_every_attempt(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_00))
    for code in ("R02", "R03"):
        await service.deliver(fail_payout(service.transactions.newest("sponsor-1"), code))
        proceeds = opb.ResendProceedsRequest(offering_id=offering.offering_id)
        asked = await service.ask(service.offerings.ResendProceeds, proceeds)
        if code == "R02":
            await service.grant(asked)
            await service.work()
    [earlier] = read_told(asked)["EARLIER_ATTEMPTS"].operands
    assert "R02 it is" in earlier.value
    distribution = await service.executed(offering, 10_00)
    for code in ("R02", "R03"):
        await service.work()
        await service.deliver(fail_payout(service.transactions.newest("inv-001"), code))
        owed = (await service.allocations(distribution))["inv-001"]
        again = dpb.ResendAllocationRequest(
            distribution_id=distribution.distribution_id, allocation_id=owed.allocation_id
        )
        asked = await service.ask(service.distributions.ResendAllocation, again)
        if code == "R02":
            await service.grant(asked)
    [earlier] = read_told(asked)["EARLIER_ATTEMPTS"].operands
    assert "R02 it is" in earlier.value
