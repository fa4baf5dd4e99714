"""A refund that goes to several cards is ordered a part at a time, each once the one before is paid."""

from __future__ import annotations

from datetime import timedelta

import pytest
from realco.distributions.v1 import offerings_pb2 as opb
from realco.transactions.v1.transactions_pb2 import Transaction

from tests.support.distributions import DistributionsHarness
from tests.support.money import usd
from tests.support.peers.transactions import complete_payout, return_payout


@pytest.fixture
async def service(service_database) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def begin(service: DistributionsHarness):
    """A raise that failed, of which one investor paid 100.00 by two cards; two persons gave it back."""
    service.transactions.cards["inv-001"] = [40_00, 60_00]
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    asked = await service.ask(service.offerings.RefundOffering, request)
    assert "To cards that it came from: inv-001." in str(asked.explanations)
    await service.grant(asked)
    await service.work()
    return offering, held


async def ask_to_resend(service: DistributionsHarness, held: opb.Investment, **where: str):
    resend = opb.ResendRefundRequest(investment_id=held.investment_id, **where)
    return await service.ask(service.investments.ResendRefund, resend)


def list_paid(service: DistributionsHarness) -> list[int]:
    return [each.amount.amount_minor for each in service.transactions.by_key.values()]


async def finish(service: DistributionsHarness) -> None:
    part = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(part), complete_payout(part))
    await service.work()


async def pay_two(service: DistributionsHarness) -> tuple[opb.Investment, list[Transaction]]:
    """Refunds of 5.00 and 7.00 that came too late for a closing, one after the other."""
    offering = await service.closed_offering(("inv-001", 100_00))
    held = (await service.positions(offering))["inv-001"]
    paid = []
    for minor in (5_00, 7_00):
        await service.fund(offering, held, minor)
        await service.work()
        paid.append(service.transactions.newest("inv-001"))
        await service.deliver(service.gave_back(paid[-1]), complete_payout(paid[-1]))
    return held, paid


async def test_each_part_follows_the_one_before_and_all_of_it_is_what_two_persons_decided(service) -> None:
    offering, held = await begin(service)
    assert list_paid(service) == [40_00], "the next part waits"
    assert not (await service.get(held)).HasField("refund_failure")
    await finish(service)
    assert list_paid(service) == [40_00, 60_00]
    assert set(await service.decided_by_two()) == {True}
    await finish(service)
    after = await service.get(offering)
    assert (after.status, after.funded_amount) == (opb.Offering.REFUNDED, usd(0))
    assert list_paid(service) == [40_00, 60_00]


async def test_a_part_that_fails_waits_for_a_person_and_goes_again(service) -> None:
    offering, held = await begin(service)
    part = service.transactions.newest("inv-001")
    await service.deliver(service.gave_back(part), return_payout(part), service.bounced(part))
    service.transactions.cards["inv-001"] = [40_00, 60_00]
    assert await service.work() == 0, "nothing is sent again by itself"
    assert (await service.get(held)).refund_failure.code == "RETURNED_BY_BANK"
    account = service.transactions.add_bank_account("inv-001")
    named = await ask_to_resend(service, held, bank_account_id=account)
    by_rail = await ask_to_resend(service, held, payment_method="CHECK")
    told = await ask_to_resend(service, held)
    for asked, to_card in ((named, False), (by_rail, False), (told, True)):
        rules = {each.rule: each.statement for each in asked.explanations}
        assert rules["LAST_ATTEMPT"].startswith("The last attempt came to nothing: RETURNED_BY_BANK")
        assert ("REFUND_TO_CARD" in rules) == to_card, "where it goes elsewhere, no card is named"
    await service.grant(told)
    await service.work()
    await finish(service)
    await finish(service)
    assert (await service.get(offering)).status == opb.Offering.REFUNDED
    assert list_paid(service) == [40_00, 40_00, 60_00]


async def test_a_refund_returned_after_a_later_one_was_paid_is_owed_and_goes_again_once_a_person_asks(
    service: DistributionsHarness,
) -> None:
    held, paid = await pay_two(service)
    await service.deliver(return_payout(paid[0]), service.bounced(paid[0]))
    await service.work()
    waits = await service.get(held)
    assert (len(service.transactions.by_key), waits.HasField("refund_failure")) == (3, True)
    await service.call(service.investments.ResendRefund, opb.ResendRefundRequest(investment_id=held.investment_id))
    await service.work()
    again = service.transactions.newest("inv-001")
    assert (again.amount, len(service.transactions.by_key)) == (usd(5_00), 4)
    assert not (await service.get(held)).HasField("refund_failure")


async def test_one_that_comes_back_after_a_person_had_another_sent_again_waits_for_a_person_too(
    service: DistributionsHarness,
) -> None:
    held, paid = await pay_two(service)
    await service.deliver(return_payout(paid[1]), service.bounced(paid[1]))
    await service.resend_refund(held)
    await service.work()
    await finish(service)
    assert not (await service.get(held)).HasField("refund_failure")
    service.clock.set(service.clock.now() + timedelta(days=2))
    await service.deliver(return_payout(paid[0]), service.bounced(paid[0]))
    assert await service.work() == 0, "nothing is sent again by itself"
    assert (await service.get(held)).refund_failure.code == "RETURNED_BY_BANK"
    await service.resend_refund(held)
    await service.work()
    assert service.transactions.newest("inv-001").amount == usd(5_00)
    assert not (await service.get(held)).HasField("refund_failure")


async def test_of_a_refund_in_parts_those_that_came_to_nothing_go_again_once_a_time_that_a_person_asks(
    service: DistributionsHarness,
) -> None:
    """Else two cards that take nothing have refunds ordered for ever, by turns."""
    offering = await service.closed_offering(("inv-001", 100_00))
    held = (await service.positions(offering))["inv-001"]
    service.transactions.cards["inv-001"] = [40_00, 30_00]
    await service.fund(offering, held, 70_00)  # too late, so it goes back
    counts = []
    for _ in range(3):
        for _ in range(4):
            await service.work()
            for payout in list(service.transactions.by_key.values()):
                if payout.party_id == "inv-001" and payout.status == payout.INITIATED:
                    await service.deliver(complete_payout(payout), service.gave_back(payout))
                    await service.deliver(return_payout(payout), service.bounced(payout))
                    payout.status = payout.RETURNED
        counts.append(len([each for each in service.transactions.by_key.values() if each.party_id == "inv-001"]))
        assert (await service.get(held)).HasField("refund_failure")
        again = opb.ResendRefundRequest(investment_id=held.investment_id)
        await service.call(service.investments.ResendRefund, again)
    assert counts == [2, 3, 4], "each part once, and then as often as somebody asks"
