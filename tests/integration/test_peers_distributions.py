"""Distributions as the transactions service asks it: one test body, over the fake of its tests and over the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realco.distributions.v1.offerings_pb2 import CancelInvestmentRequest, Investment
from realco.transactions.v1.payouts_pb2 import BatchCreatePayoutsRequest
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.database import Database
from services.chassis.values.ids import new_id
from services.transactions.clients import DistributionsClient
from tests.support.distributions import DistributionsHarness
from tests.support.peers.distributions import MemoryDistributions
from tests.support.peers.wire import Wire
from tests.support.transactions import usd

ADMIN = Principal("admin-1", "admin", "org-1")


class MemoryRaise:
    """The fake, with one investment."""

    def __init__(self) -> None:
        self._distributions = MemoryDistributions(new_id("esc"))
        self.servicers = (self._distributions,)

    async def invest(self, party_id: str, minor: int) -> tuple[str, str, str]:
        """The ids of the escrow account, the offering and the investment."""
        offering = self._distributions.offering
        return offering.escrow_account_id, offering.offering_id, self._distributions.invest(party_id, minor)

    async def refund(self, party_id: str, minor: int) -> str:
        """Has an investment go back, as admin-3 asks and admin-4 approves. Returns: the key of the order."""
        item = BatchCreatePayoutsRequest.Item(
            idempotency_key="refund:1",
            type=Transaction.REFUND,
            amount=usd(minor),
            escrow_account_id=self._distributions.offering.escrow_account_id,
            party_id=party_id,
            investment_id=self._distributions.invest(party_id, minor),
            description="Refund of a contribution",
        )
        self._distributions.order([item], "admin-3", approved=True, makers_and_checkers=["admin-3", "admin-4"])
        return item.idempotency_key


class RealRaise:
    """The service, with one investment."""

    def __init__(self, database: Database) -> None:
        self._harness = DistributionsHarness(database)
        self.servicers = (self._harness.offerings, self._harness.investments, self._harness.payout_orders)

    async def invest(self, party_id: str, minor: int) -> tuple[str, str, str]:
        """The ids of the escrow account, the offering and the investment."""
        offering = await self._harness.offering()
        investment = await self._harness.invest(offering, party_id, minor, fund=False)
        return offering.escrow_account_id, offering.offering_id, investment.investment_id

    async def refund(self, party_id: str, minor: int) -> str:
        """Has an investment go back, as admin-3 asks and admin-4 approves. Returns: the key of the order."""
        held = await self._harness.invest(await self._harness.offering(), party_id, minor)
        request = CancelInvestmentRequest(investment_id=held.investment_id)
        asked = await self._harness.ask(self._harness.investments.CancelInvestment, request, "admin-3")
        await self._harness.grant(asked, "admin-4")
        await self._harness.work()
        [key] = self._harness.transactions.by_key
        return key


@pytest.fixture(params=["memory", "real"])
async def raise_(
    request: pytest.FixtureRequest, service_database: Callable[[str], Awaitable[Database]]
) -> MemoryRaise | RealRaise:
    return MemoryRaise() if request.param == "memory" else RealRaise(await service_database("distributions"))


async def test_an_investment_and_its_offering_are_found_or_are_not_there(raise_: MemoryRaise | RealRaise) -> None:
    escrow_account_id, offering_id, investment_id = await raise_.invest("inv-001", 100_00)
    client = DistributionsClient(Wire("transactions").open_channel(*raise_.servicers))
    with acting_as(ADMIN):
        investment = await client.get_investment(investment_id)
        offering = await client.get_offering(offering_id)
        [listed] = await client.list_investments([investment_id, *(new_id("inv") for _ in range(100))])
        assert await client.get_investment(new_id("inv")) is None
        assert await client.get_offering(new_id("off")) is None
    assert investment is not None
    assert (listed.investment_id, listed.status) == (investment_id, investment.status)
    assert (investment.investment_id, investment.offering_id) == (investment_id, offering_id)
    assert (investment.party_id, investment.status) == ("inv-001", Investment.PENDING)
    assert (investment.amount, investment.funded_amount) == (usd(100_00), usd(0))
    assert offering is not None
    assert (offering.offering_id, offering.escrow_account_id) == (offering_id, escrow_account_id)


async def test_an_order_says_what_is_paid_and_by_whose_word_and_an_unknown_key_says_nothing(
    raise_: MemoryRaise | RealRaise,
) -> None:
    key = await raise_.refund("inv-001", 60_00)
    client = DistributionsClient(Wire("transactions").open_channel(*raise_.servicers))
    with acting_as(ADMIN):
        [order] = await client.batch_get_payout_orders([key, "unknown"])
    assert (order.idempotency_key, order.type, order.amount) == (key, "REFUND", usd(60_00))
    assert (order.party_id, order.description, order.refund_approved) == ("inv-001", "Refund of a contribution", True)
    assert (order.ordered_by, list(order.makers_and_checkers)) == ("admin-3", ["admin-3", "admin-4"])
    assert bool(order.escrow_account_id and order.investment_id)
    named = ("bank_account_id", "payment_method", "distribution_id", "allocation_id", "sign_in_time", "api_key_id")
    assert [name for name in named if order.HasField(name)] == []
