"""Distributions as the transactions service asks it: one test body, over the fake of its tests and over the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realco.distributions.v1.offerings_pb2 import Investment

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


class RealRaise:
    """The service, with one investment."""

    def __init__(self, database: Database) -> None:
        self._harness = DistributionsHarness(database)
        self.servicers = (self._harness.offerings, self._harness.investments)

    async def invest(self, party_id: str, minor: int) -> tuple[str, str, str]:
        """The ids of the escrow account, the offering and the investment."""
        offering = await self._harness.offering()
        investment = await self._harness.invest(offering, party_id, minor, fund=False)
        return offering.escrow_account_id, offering.offering_id, investment.investment_id


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
        [listed] = await client.list_investments([investment_id, new_id("inv")])
        assert await client.get_investment(new_id("inv")) is None
        assert await client.get_offering(new_id("off")) is None
    assert investment is not None
    assert (listed.investment_id, listed.status) == (investment_id, investment.status)
    assert (investment.investment_id, investment.offering_id) == (investment_id, offering_id)
    assert (investment.party_id, investment.status) == ("inv-001", Investment.PENDING)
    assert (investment.amount, investment.funded_amount) == (usd(100_00), usd(0))
    assert offering is not None
    assert (offering.offering_id, offering.escrow_account_id) == (offering_id, escrow_account_id)
