"""Escrow's database alone is restored: what it books once more, or never again, is counted as its book has it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace

import pytest
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.events_pb2 import JournalEntriesPosted

from tests.support.databases import open_database
from tests.support.distributions import CLOSING, ORG, DistributionsHarness
from tests.support.escrow import Escrow
from tests.support.escrow_payments import Payment
from tests.support.peers.transactions import complete_payout
from tests.support.restores import restored_to_here

Urls = Callable[[str], Awaitable[SimpleNamespace]]


@pytest.fixture
async def urls(service_urls: Urls) -> SimpleNamespace:
    return await service_urls("escrow")


@pytest.fixture
async def escrow(urls: SimpleNamespace) -> AsyncIterator[Escrow]:
    async with Escrow(urls) as escrow:
        escrow.org_id, escrow.admin = ORG, dataclasses.replace(escrow.admin, org_id=ORG)
        yield escrow


@pytest.fixture
async def service(service_urls: Urls, escrow: Escrow) -> AsyncIterator[DistributionsHarness]:
    database = open_database(await service_urls("distributions"), "distributions")
    yield DistributionsHarness(database, *escrow.servicers)
    await database.dispose()


async def test_a_contribution_that_a_restored_escrow_books_once_more_is_counted_and_refunded_once(
    urls: SimpleNamespace, escrow: Escrow, service: DistributionsHarness
) -> None:
    account = await escrow.open()
    offering = await service.offering(200_00, escrow_account_id=account)
    held = await service.invest(offering, "inv-001", 200_00, fund=False)
    payment = Payment(account, "ESCROW_DEPOSIT", 100_00)
    payment.transaction.investment_id = held.investment_id
    async with restored_to_here(urls):
        await payment.happens(escrow, "SUBMITTED", "SETTLED")
        by_hand = {"investment_id": held.investment_id}
        await escrow.post(account, ("cash", 30_00), ("subscription:inv-001", -30_00), **by_hand)
        of_before = await escrow.events(JournalEntriesPosted)
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    of_now = await escrow.events(JournalEntriesPosted)
    assert {each.meta.incarnation for each in of_before}.isdisjoint(each.meta.incarnation for each in of_now)

    for event in (*of_before, *of_now, *of_before):
        await service.deliver(event)
    assert await escrow.posted(account) == {"cash": 100_00, "subscription:inv-001": 100_00}
    assert (await service.get(offering)).funded_amount.amount_minor == 130_00
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="the target was missed")
    await service.work()
    position = (await service.positions(offering))["inv-001"]
    told = (position.funded_amount.amount_minor, (await service.get(offering)).funded_amount.amount_minor)
    assert told == (100_00, 100_00)

    contribution = service.contribution(offering, held, 100_00)
    contribution.transaction_id = payment.transaction.transaction_id
    await service.deliver(complete_payout(contribution))
    service.clock.set(CLOSING)
    await service.call(service.offerings.RefundOffering, request)
    await service.work()
    refunds = [(each.type, each.amount.amount_minor) for each in service.transactions.by_key.values()]
    assert refunds == [(refunds[0][0], 100_00)]
