"""Why a refund failed is said as long as some is owed that nothing pays by itself, and then can be sent again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realco.distributions.v1 import offerings_pb2 as opb
from realco.transactions.v1.transactions_pb2 import Transaction as Txn

from services.chassis.data.database import Database
from tests.integration.test_distributions_refunds import take_back
from tests.support.distributions import DistributionsHarness
from tests.support.money import usd
from tests.support.peers.transactions import return_payout


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def fail_refund(service: DistributionsHarness) -> tuple[opb.Offering, opb.Investment, Txn]:
    """Of 60.00 that an investor withdraws, who has no bank account."""
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 60_00, fund=False)
    paid = await service.fund(offering, held, 60_00)
    service.transactions.without_bank_account.add("inv-001")
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.call(service.investments.CancelInvestment, request)
    await service.work()
    assert (await service.get(held)).HasField("refund_failure")
    return offering, held, paid


async def test_why_a_refund_failed_is_said_until_its_bank_has_taken_the_money_back_instead(
    service: DistributionsHarness,
) -> None:
    _, held, paid = await fail_refund(service)
    await service.deliver(return_payout(paid, "R10"), take_back(service, paid))
    await service.work()
    after = await service.get(held)
    assert (after.status, after.HasField("refund_failure")) == (opb.Investment.CANCELLED, False)
    assert [each.code for each in after.earlier_refund_failures] == ["NO_PAYOUT_BANK_ACCOUNT"]


async def test_it_is_said_again_of_what_comes_later_which_goes_once_a_person_asks(
    service: DistributionsHarness,
) -> None:
    offering, held, paid = await fail_refund(service)
    await service.deliver(return_payout(paid, "R10"), take_back(service, paid))
    await service.work()
    await service.fund(offering, held, 40_00)
    await service.work()
    late = await service.get(held)
    assert (late.status, late.refund_failure.code) == (opb.Investment.CANCELLING, "NO_PAYOUT_BANK_ACCOUNT")
    assert list(late.earlier_refund_failures) == [], "it is not said twice"
    assert "resend_refund" in late.allowed_actions
    service.transactions.without_bank_account.remove("inv-001")
    await service.resend_refund(held)
    await service.work()
    assert service.transactions.newest("inv-001").amount == usd(40_00)
