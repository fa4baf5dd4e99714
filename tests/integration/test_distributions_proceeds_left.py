"""Proceeds that failed are paid again as far as the book has them: the issuer may have borne a return meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.type.v1.approval_pb2 import Approval

from services.chassis.data.database import Database
from tests.support.distributions import CLOSING, DistributionsHarness, refusal_of
from tests.support.money import usd
from tests.support.peers.transactions import complete_payout, fail_payout


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def fail_proceeds(service: DistributionsHarness) -> opb.Offering:
    """Of 150.00."""
    offering = await service.offering(150_00)
    await service.invest(offering, "inv-001", 150_00)
    service.clock.set(CLOSING)
    await service.close(offering)
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("sponsor-1")))
    return await service.get(offering)


def bear(service: DistributionsHarness, offering: opb.Offering, minor: int) -> None:
    """Two persons posted that the issuer bears what a bank took back of a contribution."""
    legs = "issuer_proceeds", "returns_receivable:inv-001"
    service.escrow.post(offering.escrow_account_id, JournalEntry.ADJUSTMENT, *legs, minor)


async def ask(service: DistributionsHarness, offering: opb.Offering) -> Approval:
    request = opb.ResendProceedsRequest(offering_id=offering.offering_id)
    return await service.ask(service.offerings.ResendProceeds, request, "admin-3")


async def test_what_the_issuer_has_borne_of_its_proceeds_is_not_paid_and_the_rest_is(
    service: DistributionsHarness,
) -> None:
    offering = await fail_proceeds(service)
    bear(service, offering, 50_00)
    asked = await ask(service, offering)
    told = {each.rule: each.statement for each in asked.explanations}
    assert told["AMOUNTS_OWED"].startswith("150.00 USD is not paid, and 100.00 USD is left on ISSUER_PROCEEDS")
    assert asked.amount == usd(100_00)
    await service.grant(asked)
    await service.work()
    assert service.transactions.newest("sponsor-1").amount == usd(100_00)


async def test_two_persons_who_saw_more_or_less_than_is_left_by_now_have_said_yes_to_something_else(
    service: DistributionsHarness,
) -> None:
    offering = await fail_proceeds(service)
    asked = await ask(service, offering)
    bear(service, offering, 50_00)
    assert await refusal_of(service.grant(asked)) == "CONTENT_OUTDATED"
    asked = await ask(service, offering)
    bear(service, offering, -50_00)
    assert await refusal_of(service.grant(asked)) == "CONTENT_OUTDATED"


async def test_where_nothing_of_them_is_left_nothing_is_paid_again(service: DistributionsHarness) -> None:
    offering = await fail_proceeds(service)
    bear(service, offering, 150_00)
    assert await refusal_of(ask(service, offering)) == "NOTHING_TO_RESEND"
    assert (await service.get(offering)).proceeds_failure.code


async def test_what_is_given_back_to_the_proceeds_is_paid_too_whatever_the_last_attempt_asked_for(
    service: DistributionsHarness,
) -> None:
    offering = await fail_proceeds(service)
    bear(service, offering, 50_00)
    await service.grant(await ask(service, offering))
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("sponsor-1")))
    bear(service, offering, -50_00)
    assert (await ask(service, offering)).amount == usd(150_00)


async def test_what_is_given_back_after_the_rest_was_paid_can_be_paid_as_well_and_nothing_twice(
    service: DistributionsHarness,
) -> None:
    offering = await fail_proceeds(service)
    bear(service, offering, 50_00)
    await service.grant(await ask(service, offering))
    await service.work()
    paid = service.transactions.newest("sponsor-1")
    assert await refusal_of(ask(service, offering)) == "NOTHING_TO_RESEND", "what is under way is as good as paid"
    service.escrow.post(offering.escrow_account_id, JournalEntry.WITHDRAWAL, "issuer_proceeds", "cash", 100_00)
    await service.deliver(complete_payout(paid))
    assert await refusal_of(ask(service, offering)) == "NOTHING_TO_RESEND"
    bear(service, offering, -50_00)
    asked = await ask(service, offering)
    assert asked.amount == usd(50_00)
    await service.grant(asked)
    await service.work()
    assert service.transactions.newest("sponsor-1").amount == usd(50_00)
