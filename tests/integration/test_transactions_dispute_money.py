"""A dispute that ends without being lost is over once its money is back at Stripe; over the stand-in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from realco.transactions.v1 import exceptions_pb2

from services.transactions.domain.exceptions import ExceptionKind
from tests.integration.stripe_desk import (
    T,
    alter,
    answer_dispute,
    have_disputed,
    jump,
    pay,
    pay_by_card,
    post,
    read,
    start_by_card,
    tell,
)
from tests.support.exceptions import count_found, list_exceptions
from tests.support.transactions import TransactionsHarness

pytest_plugins = ("tests.integration.stripe_desk",)


@pytest.fixture
def service(stripe_service: TransactionsHarness) -> TransactionsHarness:
    return stripe_service


async def becomes(service, seen, *statuses):
    """The transaction, once its dispute stands so."""
    for _ in range(100):
        service.clock.advance(timedelta(minutes=5))
        await service.work(hurried=True)
        found = await service.get(seen.transaction_id)
        if found.dispute_status in statuses:
            return found
    raise AssertionError(f"the dispute is {T.DisputeStatus.Name(found.dispute_status)}")


async def read_disputed(service) -> exceptions_pb2.PaymentException:
    kind = exceptions_pb2.PaymentException.CARD_DISPUTED
    [found] = [each for each in await list_exceptions(service) if each.kind == kind]
    return found


async def read_finality(service, seen) -> tuple[int, int]:
    """How it stands once it should long be final."""
    service.clock.advance(timedelta(days=200))
    await service.work(hurried=True)
    after = await service.get(seen.transaction_id)
    return after.status, after.finality


async def test_a_dispute_that_is_prevented_is_lost_where_its_money_was_taken(service, url) -> None:
    started = await start_by_card(service)
    pay(url, started.provider_reference, "pm_card_createDisputePrevented")
    seen = await becomes(service, started, T.LOST)
    assert (seen.status, seen.failure.code) == (T.RETURNED, "DISPUTE_LOST")
    told = await read_disputed(service)
    assert (told.status, "the money went back" in told.cause) == (exceptions_pb2.PaymentException.OPEN, True)


async def test_a_dispute_that_is_prevented_and_took_nothing_leaves_the_payment_as_it_is(service, url, books) -> None:
    seen = await becomes(service, await pay_by_card(service, url, "pm_card_createDisputeInquiry"), T.NEEDS_RESPONSE)
    alter(books, seen.dispute_reference, status="prevented")
    after = await becomes(service, seen, T.WON)
    assert await read_finality(service, after) == (T.COMPLETED, T.FINAL)


async def test_an_inquiry_that_is_given_up_has_taken_nothing(service, url) -> None:
    seen = await becomes(service, await pay_by_card(service, url, "pm_card_createDisputeInquiry"), T.NEEDS_RESPONSE)
    await post(url, f"disputes/{seen.dispute_reference}/close")
    after = await becomes(service, seen, T.WON)
    assert await read_finality(service, after) == (T.COMPLETED, T.FINAL)


async def test_of_a_prevented_dispute_of_a_part_nothing_moves_and_a_person_is_called(service, url, books) -> None:
    seen = await becomes(service, await pay_by_card(service, url, "pm_card_createDispute"), T.NEEDS_RESPONSE)
    [taken] = read(books, seen.dispute_reference)["balance_transactions"]
    before = count_found(ExceptionKind.PAYMENT_NOT_OURS)
    alter(books, seen.dispute_reference, status="prevented", balance_transactions=[taken | {"amount": -40_00}])
    assert await read_finality(service, seen) == (T.SETTLED, T.PROVISIONAL)
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) > before


@pytest.mark.parametrize("ended", ["won", "warning_closed"])
async def test_what_is_won_is_not_final_before_its_money_is_back(service, url, books, ended) -> None:
    paid = await pay_by_card(service, url)
    await jump(service, paid, "return_risk_end_time")
    await have_disputed(url, books, paid.provider_reference)
    seen = await becomes(service, paid, T.NEEDS_RESPONSE)
    alter(books, seen.dispute_reference, status=ended)
    intent = read(books, seen.provider_reference)["payment_intent"]
    await tell(service, "evt_closed", "charge.dispute.closed", payment_intent=intent)
    awaited = await becomes(service, seen, T.MONEY_AWAITED)
    told = await read_disputed(service)
    assert (told.status, "has not come back" in told.cause) == (exceptions_pb2.PaymentException.OPEN, True)
    assert await read_finality(service, awaited) == (T.COMPLETED, T.PROVISIONAL)
    [taken] = read(books, seen.dispute_reference)["balance_transactions"]
    back = taken | {"id": "txn_back", "amount": -taken["amount"]}
    alter(books, seen.dispute_reference, balance_transactions=[taken, back])
    await tell(service, "evt_reinstated", "charge.dispute.funds_reinstated", payment_intent=intent)
    won = await becomes(service, seen, T.WON)
    assert "it is won" in (await read_disputed(service)).cause
    assert await read_finality(service, won) == (T.COMPLETED, T.FINAL)


async def test_money_that_comes_back_late_is_awaited_and_ends_the_dispute_by_an_event_of_its_own(service, url) -> None:
    seen = await becomes(service, await pay_by_card(service, url, "pm_card_createDispute"), T.NEEDS_RESPONSE)
    await answer_dispute(url, seen.dispute_reference, "winning_evidence_paid_late")
    won = await becomes(service, seen, T.WON)
    assert await read_finality(service, won) == (T.COMPLETED, T.FINAL)
