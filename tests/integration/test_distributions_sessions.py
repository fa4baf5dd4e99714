"""Distributions says of each payout in which session it was asked for, be it at once or once another approved it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from realco.distributions.v1 import offerings_pb2 as opb
from realco.distributions.v1.payout_orders_pb2 import BatchGetPayoutOrdersRequest
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.database import Database
from tests.support.distributions import ORG, DistributionsHarness
from tests.support.peers.transactions import complete_payout
from tests.support.sessions import KEY, SIGNED_IN_AT, sign_in, sign_in_by_key

INVESTOR = sign_in(Principal("inv-001", "investor", ORG, parties=frozenset({"inv-001"})))
STAFF = sign_in(Principal("admin-1", "admin", ORG))
PROGRAM = sign_in_by_key(STAFF)


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def tell_sessions(service: DistributionsHarness) -> list[tuple[int, str]]:
    """What transactions is told about each payout that was ordered."""
    await service.work()
    if not service.transactions.by_key:
        return []
    request = BatchGetPayoutOrdersRequest(idempotency_keys=list(service.transactions.by_key))
    orders = (await service.call(service.payout_orders.BatchGetPayoutOrders, request)).payout_orders
    return [(order.sign_in_time.seconds, order.api_key_id) for order in orders]


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
