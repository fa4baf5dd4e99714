"""What a write answers is what its caller reads after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb

from services.chassis.calls.access import rules_of
from services.chassis.data.database import Database
from tests.support.distributions import CLOSING, OF_AN_OPEN_ONE, TWO_PERSONS, DistributionsHarness
from tests.support.money import usd
from tests.support.peers.transactions import fail_payout

SERVICES = [*opb.DESCRIPTOR.services_by_name.values(), *dpb.DESCRIPTOR.services_by_name.values()]
WRITES = {path.rsplit("/", 1)[1] for path, rule in rules_of(SERVICES).items() if not rule.reads_only}


class ReadingHarness(DistributionsHarness):
    """Reads what it wrote, as the same caller, and compares."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.compared: set[str] = set()

    async def call(
        self, method: Any, request: Message, person: str = "admin-1", role: str = "admin", org: str = "org-1"
    ) -> Any:
        answer = await super().call(method, request, person, role, org)
        if method.__name__ in WRITES:
            read, what = self._how_to_read(answer)
            expected = await super().call(read, what, person, role, org)
            if method.__name__ in TWO_PERSONS and role != "investor":
                del expected.allowed_actions[:]  # they are a person's, and a service ordered it
            assert answer == expected, method.__name__
            self.compared.add(method.__name__)
        return answer

    def _how_to_read(self, answer: Message) -> tuple[Any, Message]:
        if isinstance(answer, opb.Offering):
            return self.offerings.GetOffering, opb.GetOfferingRequest(offering_id=answer.offering_id)
        if isinstance(answer, opb.Investment):
            return self.investments.GetInvestment, opb.GetInvestmentRequest(investment_id=answer.investment_id)
        if isinstance(answer, dpb.Distribution):
            request = dpb.GetDistributionRequest(distribution_id=answer.distribution_id)
            return self.distributions.GetDistribution, request
        assert isinstance(answer, dpb.Allocation)
        one = dpb.GetAllocationRequest(distribution_id=answer.distribution_id, allocation_id=answer.allocation_id)
        return self.distributions.GetAllocation, one


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> ReadingHarness:
    return ReadingHarness(await service_database("distributions"))


async def test_every_write_answers_what_its_caller_reads_after_it(service: ReadingHarness) -> None:
    offering = await service.offering(100_000_00, maximum_amount=usd(200_000_00))
    assert list(offering.allowed_actions) == OF_AN_OPEN_ONE, "the answer to a write has them"
    mask = FieldMask(paths=["display_name"])
    update = opb.UpdateOfferingRequest(offering_id=offering.offering_id, display_name="Elm Street", update_mask=mask)
    offering = await service.call(service.offerings.UpdateOffering, update)
    held = await service.invest(offering, "inv-001", 100_000_00)
    assert list(held.allowed_actions) == ["cancel"]
    withdrawn = await service.invest(offering, "inv-002", 10_00, fund=False)
    cancel = opb.CancelInvestmentRequest(investment_id=withdrawn.investment_id)
    await service.call(service.investments.CancelInvestment, cancel, "inv-002", "investor")
    given_up = await service.offering(100_000_00)
    refund = opb.RefundOfferingRequest(offering_id=given_up.offering_id, note="The sale fell through.")
    await service.call(service.offerings.RefundOffering, refund)
    service.clock.set(CLOSING)
    await service.close(offering)
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("sponsor-1")))
    assert list((await service.get(offering)).allowed_actions) == [
        "update",
        "change_receivables_policy",
        "resend_proceeds",
        "create_distribution",
    ]
    await service.resend_proceeds(offering)
    await service.fund(offering, held, 5_00)
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("inv-001")))
    await service.resend_refund(held)
    await service.work()

    dropped = await service.calculate(await service.draft(offering, 10_000_00))
    drop = dpb.CancelDistributionRequest(distribution_id=dropped.distribution_id)
    await service.call(service.distributions.CancelDistribution, drop)
    submitted = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)))
    reject = dpb.RejectDistributionRequest(distribution_id=submitted.distribution_id, note="Once more.")
    await service.call(service.distributions.RejectDistribution, reject, "admin-2")
    service.deposit(offering, 10_000_00)
    executed = await service.execute(await service.approve(await service.submit(submitted)))
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("inv-001")))
    owed = (await service.allocations(executed))["inv-001"]
    resend = dpb.ResendAllocationRequest(distribution_id=owed.distribution_id, allocation_id=owed.allocation_id)
    await service.call(service.distributions.ResendAllocation, resend)
    policy = opb.ChangeReceivablesPolicyRequest(offering_id=offering.offering_id, receivables_policy="SET_OFF")
    await service.call(service.offerings.ChangeReceivablesPolicy, policy)

    assert service.compared == WRITES
