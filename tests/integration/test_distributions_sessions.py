"""Distributions says of each payout in which session it was asked for, and who asked for it and approved it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.distributions.v1.payout_orders_pb2 import BatchGetPayoutOrdersRequest, PayoutOrder
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.database import Database
from tests.support.distributions import CLOSING, ORG, DistributionsHarness
from tests.support.money import usd
from tests.support.peers.transactions import complete_payout, fail_payout
from tests.support.sessions import KEY, SIGNED_IN_AT, sign_in, sign_in_by_key

INVESTOR = sign_in(Principal("inv-001", "investor", ORG, parties=frozenset({"inv-001"})))
STAFF = sign_in(Principal("admin-1", "admin", ORG))
PROGRAM = sign_in_by_key(STAFF)


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def tell_sessions(service: DistributionsHarness) -> list[tuple[int, str]]:
    """What transactions is told about each payout that was ordered."""
    return [(order.sign_in_time.seconds, order.api_key_id) for order in await list_orders(service)]


async def list_orders(service: DistributionsHarness) -> list[PayoutOrder]:
    await service.work()
    if not service.transactions.by_key:
        return []
    request = BatchGetPayoutOrdersRequest(idempotency_keys=list(service.transactions.by_key))
    return list((await service.call(service.payout_orders.BatchGetPayoutOrders, request)).payout_orders)


async def cancel(service: DistributionsHarness, who: Principal) -> Any:
    offering = await service.offering(100_00)
    return await cancel_held(service, who, await service.invest(offering, "inv-001", 60_00))


async def cancel_held(service: DistributionsHarness, who: Principal, held: opb.Investment) -> Any:
    request = opb.CancelInvestmentRequest(idempotency_key="cancel", investment_id=held.investment_id)
    with acting_as(who):
        return await service.investments.CancelInvestment(request, None)


async def test_what_an_investor_has_paid_back_was_asked_for_in_the_investors_session(
    service: DistributionsHarness,
) -> None:
    await cancel(service, INVESTOR)
    assert await tell_sessions(service) == [(SIGNED_IN_AT, "")]


async def test_what_goes_back_once_it_is_cleared_was_asked_for_in_the_session_in_which_it_was_cancelled(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    coming = await service.fund(offering, held, 60_00, clear=False)
    await cancel_held(service, INVESTOR, held)
    assert await tell_sessions(service) == []
    await service.deliver(complete_payout(coming))
    assert await tell_sessions(service) == [(SIGNED_IN_AT, "")]


@pytest.mark.parametrize(("who", "key"), [(STAFF, ""), (PROGRAM, KEY)], ids=["a person", "a program"])
async def test_what_another_person_approved_was_asked_for_in_the_session_of_who_asked(
    service: DistributionsHarness, who: Principal, key: str
) -> None:
    asked = (await cancel(service, who)).approval
    assert (await service.grant(asked)).status == Approval.EXECUTED
    assert await tell_sessions(service) == [(SIGNED_IN_AT, key)]


async def test_what_a_service_asked_for_has_no_session(service: DistributionsHarness) -> None:
    await cancel(service, Principal("service:importer", "service", ORG, "admin-1"))
    assert await tell_sessions(service) == [(0, "")]


async def name_persons(service: DistributionsHarness) -> set[str]:
    """Who asked for the payout that was ordered last, and who approved it, as transactions is told."""
    newest = list(service.transactions.by_key)[-1]
    [order] = [each for each in await list_orders(service) if each.idempotency_key == newest]
    return {order.ordered_by, *order.makers_and_checkers}


async def ask_for_allocation(service: DistributionsHarness) -> Any:
    offering = await service.closed_offering(("inv-001", 100_00))
    distribution = await service.executed(offering, 10_00)
    await service.deliver(fail_payout(service.transactions.newest("inv-001")))
    owed = (await service.allocations(distribution))["inv-001"]
    request = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id, allocation_id=owed.allocation_id
    )
    return service.distributions.ResendAllocation, request


async def ask_for_closing(service: DistributionsHarness) -> Any:
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 100_00)
    service.clock.set(CLOSING)
    return service.offerings.CloseOffering, opb.CloseOfferingRequest(offering_id=offering.offering_id)


async def ask_for_proceeds(service: DistributionsHarness) -> Any:
    offering = await service.closed_offering(("inv-001", 100_00))
    await service.deliver(fail_payout(service.transactions.newest("sponsor-1")))
    return service.offerings.ResendProceeds, opb.ResendProceedsRequest(offering_id=offering.offering_id)


async def ask_for_refunds(service: DistributionsHarness) -> Any:
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 60_00)
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    return service.offerings.RefundOffering, request


async def ask_for_refund(service: DistributionsHarness) -> Any:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00)
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    return service.investments.CancelInvestment, request


async def ask_for_refund_again(service: DistributionsHarness) -> Any:
    cancel_it, request = await ask_for_refund(service)
    await service.call(cancel_it, request)
    await service.work()
    first = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(first), fail_payout(first), service.bounced(first))
    return service.investments.ResendRefund, opb.ResendRefundRequest(investment_id=request.investment_id)


@pytest.mark.parametrize(
    "prepare",
    [ask_for_allocation, ask_for_closing, ask_for_proceeds, ask_for_refunds, ask_for_refund, ask_for_refund_again],
)
async def test_who_asked_for_a_payout_and_who_approved_it_are_named_to_whoever_pays(
    service: DistributionsHarness, prepare: Callable[[DistributionsHarness], Awaitable[Any]]
) -> None:
    asked = await service.ask(*await prepare(service), "admin-3")
    assert (await service.grant(asked, "admin-4")).status == Approval.EXECUTED
    await service.work()
    # Beside those who had a part in it before, as who wrote down where proceeds go.
    assert {"admin-3", "admin-4"} <= await name_persons(service)


async def test_whoever_had_a_part_in_a_payout_that_failed_has_one_in_each_further_attempt(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_00))
    service.deposit(offering, 10_00)
    distribution = await service.execute(await service.approved(offering, 10_00), "admin-5")
    await service.work()
    said = {"admin-5", "admin-1", "admin-2"}
    for asker, approver in (("admin-3", "admin-4"), ("admin-6", "admin-7")):
        await service.deliver(fail_payout(service.transactions.newest("inv-001")))
        owed = (await service.allocations(distribution))["inv-001"]
        request = dpb.ResendAllocationRequest(
            distribution_id=distribution.distribution_id, allocation_id=owed.allocation_id, idempotency_key=asker
        )
        waits = await service.ask(service.distributions.ResendAllocation, request, asker)
        await service.grant(waits, approver)
        await service.work()
        said |= {asker, approver}
        assert await name_persons(service) == said


@pytest.mark.parametrize("prepare", [ask_for_closing, ask_for_refunds, ask_for_refund])
async def test_whoever_had_proceeds_or_a_refund_paid_has_a_part_in_its_next_attempt(
    service: DistributionsHarness, prepare: Callable[[DistributionsHarness], Awaitable[Any]]
) -> None:
    asked, request = await prepare(service)
    await service.grant(await service.ask(asked, request, "admin-3"), "admin-4")
    await service.work()
    paid = service.transactions.newest("sponsor-1" if prepare is ask_for_closing else "inv-001")
    if prepare is ask_for_closing:
        await service.deliver(fail_payout(paid))
        again: Any = opb.ResendProceedsRequest(offering_id=request.offering_id)
        resend = service.offerings.ResendProceeds
    else:
        await service.deliver(service.gave_back(paid), fail_payout(paid), service.bounced(paid))
        again = opb.ResendRefundRequest(investment_id=paid.investment_id)
        resend = service.investments.ResendRefund
    await service.grant(await service.ask(resend, again, "admin-6"), "admin-7")
    await service.work()
    assert {"admin-3", "admin-4", "admin-6", "admin-7"} <= await name_persons(service)


async def test_who_made_a_distribution_and_who_approved_it_are_named_to_whoever_pays_it(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_00))
    service.deposit(offering, 10_00)
    await service.execute(await service.approved(offering, 10_00), "admin-5")
    await service.work()
    [order] = [each for each in await list_orders(service) if each.type == "DISTRIBUTION"]
    assert (order.ordered_by, list(order.makers_and_checkers)) == ("admin-5", ["admin-1", "admin-2"])


async def test_who_ended_a_commitment_is_named_when_its_money_goes_back_later(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    coming = await service.fund(offering, held, 60_00, clear=False)
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.grant(await service.ask(service.investments.CancelInvestment, request, "admin-3"), "admin-4")
    await service.deliver(complete_payout(coming))
    await service.work()
    assert await name_persons(service) == {"admin-3", "admin-4"}


async def test_what_goes_back_because_a_closing_left_it_out_has_the_mandate_of_the_closing(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00, maximum_amount=usd(200_00))
    await service.invest(offering, "inv-001", 100_00)
    late = await service.invest(offering, "inv-002", 50_00, fund=False)
    service.clock.set(CLOSING)
    request = opb.CloseOfferingRequest(idempotency_key="close", offering_id=offering.offering_id)
    with acting_as(STAFF):
        asked = (await service.offerings.CloseOffering(request, None)).approval
    await service.grant(asked, "admin-7")
    await service.work()
    await service.deliver(complete_payout(await service.fund(offering, late, 50_00)))
    await service.work()
    [order] = [each for each in await list_orders(service) if each.type == "REFUND"]
    assert (order.ordered_by, order.sign_in_time.seconds) == (STAFF.person, SIGNED_IN_AT)
    assert "admin-7" in order.makers_and_checkers
