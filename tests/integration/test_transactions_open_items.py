"""What is open in an escrow account is in the list of exceptions, once, and says how it stands by now."""

from __future__ import annotations

from typing import Any

import pytest
from realco.escrow.v1 import events_pb2 as escrow_events
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import exceptions_pb2

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.events.handling import Delivery
from services.transactions.subscribers import SUBSCRIPTIONS
from tests.support.exceptions import list_exceptions, resolve
from tests.support.money import usd
from tests.support.transactions import ESCROW_ACCOUNT, ORG, TransactionsHarness

A, E = journal_pb2.LedgerAccount, exceptions_pb2.PaymentException
INVESTMENT = "inv_" + "0" * 26
HANDLERS = {kind: handler for each in SUBSCRIPTIONS for kind, handler in each.handlers.items()}


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def hear(
    service: TransactionsHarness, before: int, now: int, kind: int = A.RETURNS_RECEIVABLE, party: str | None = "inv-001"
) -> None:
    event = escrow_events.OpenItemChanged(
        escrow_account_id=ESCROW_ACCOUNT,
        ledger_account=A(kind=kind, party_id=party),
        amount=usd(now),
        previous_amount=usd(before),
        journal_entry_id="je_1",
        investment_id=INVESTMENT if party else None,
    )
    handler = HANDLERS[escrow_events.OpenItemChanged]
    with acting_as(service_principal("transactions", ORG, on_behalf_of="service:escrow")):
        async with service.database.begin() as tx:
            await handler(tx, event, Delivery(service.clock.now()))


async def missing(service: TransactionsHarness, **filters: Any) -> list[Any]:
    return await list_exceptions(service, kind=["SHORTFALL", "MONEY_NOT_APPLIED"], **filters)


@pytest.mark.parametrize(
    ("kind", "party", "words"),
    [
        (A.RETURNS_RECEIVABLE, "inv-001", "inv-001 owes 2.00 USD"),
        (A.PROVIDER_FEES, None, "Payment providers kept 2.00 USD"),
        (A.CASH, None, "The custodian's bank account is overdrawn by 2.00 USD"),
        (A.UNAPPLIED, "inv-001", "2.00 USD of inv-001 came while the escrow account was frozen, and is not applied"),
        (A.SUSPENSE, None, "2.00 USD is in the escrow account that nobody has explained"),
    ],
)
async def test_what_is_open_calls_somebody_and_says_whose_it_is(service, kind, party, words):
    await hear(service, 0, 200, kind, party)
    [found] = await missing(service, status=["OPEN"], escrow_account_id=[ESCROW_ACCOUNT])
    assert words in found.cause
    assert found.kind == (E.MONEY_NOT_APPLIED if kind in (A.UNAPPLIED, A.SUSPENSE) else E.SHORTFALL)
    assert (found.severity, found.amount, found.party_id) == (E.MEDIUM, usd(200), party or "")
    assert [each.payment_exception_id for each in await missing(service, party_id=["inv-001"])] == (
        [found.payment_exception_id] if party else []
    )
    await hear(service, 200, 0, kind, party)
    [made_good] = await missing(service, status=["OPEN"])
    assert made_good.cause.endswith("Resolve this.")
    assert made_good.amount == usd(0)


async def test_more_that_is_missing_is_found_again_and_less_is_only_said(service):
    await hear(service, 0, 200)
    await hear(service, 200, 500)
    [found] = await missing(service, status=["OPEN"])
    assert (found.amount, found.investment_id) == (usd(500), INVESTMENT)
    await hear(service, 500, 300)
    [less] = await missing(service, status=["OPEN"])
    assert "owes 3.00 USD" in less.cause
    assert less.amount == usd(300)
    assert less.etag != found.etag, "whoever read the one does not resolve the other"
    await resolve(service, less, "It was promised by Friday.")
    await hear(service, 300, 100)
    assert await missing(service, status=["OPEN"]) == [], "that less is missing calls nobody again"
    await hear(service, 100, 150)
    [again] = await missing(service, status=["OPEN"])
    assert again.payment_exception_id == found.payment_exception_id


async def test_each_party_that_owes_and_each_kind_is_an_exception_of_its_own(service):
    await hear(service, 0, 1)
    await hear(service, 0, 2, party="inv-002")
    await hear(service, 0, 3, A.PROVIDER_FEES, None)
    await hear(service, 0, 4, A.CASH, None)
    assert sorted(each.amount.amount_minor for each in await missing(service)) == [1, 2, 3, 4]
