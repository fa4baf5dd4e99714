"""Contributions by card on a page of Stripe's, over the stand-in: paid, declined, not paid, disputed, won and lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa
from realco.distributions.v1.offerings_pb2 import Investment
from realco.transactions.v1 import exceptions_pb2, transactions_pb2, webhooks_pb2
from realco.transactions.v1.events_pb2 import TransactionCancelled, TransactionFailed

from services.chassis.data.seals import NotSealed
from services.chassis.process.settings import ConfigurationError
from services.chassis.values.errors import DomainError
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from services.transactions.providers.stripe.keys import check_return_url
from tests.integration.stripe_desk import (
    API_KEY,
    T,
    alter,
    answer_dispute,
    becomes,
    deliver,
    have_disputed,
    jump,
    pay,
    pay_by_card,
    post,
    read,
    start_by_card,
    tell,
    told_of,
)
from tests.support.exceptions import count_found
from tests.support.payment_orders import an_order
from tests.support.transactions import ADMIN, INVESTOR, TransactionsHarness

pytest_plugins = ("tests.integration.stripe_desk",)


@pytest.fixture
def service(stripe_service: TransactionsHarness) -> TransactionsHarness:
    return stripe_service


def a_card_order(**more):
    return an_order("", payment_method="CARD", bank_account_id="", **more)


async def read_last_event(service, transaction_id: str, kind):
    last = sa.text("SELECT event_type, payload FROM outbox WHERE aggregate_id = :id ORDER BY id DESC LIMIT 1")
    async with service.database.begin_for_all() as tx:
        [row] = await tx.execute(last, {"id": transaction_id})
    assert row.event_type == kind.DESCRIPTOR.full_name
    return kind.FromString(row.payload)


async def list_disputed(service):
    request = exceptions_pb2.ListPaymentExceptionsRequest(kind=["CARD_DISPUTED"])
    return list((await service.ask(ADMIN, "ListPaymentExceptions", request)).payment_exceptions)


async def list_by_dispute(service, *statuses):
    request = transactions_pb2.ListTransactionsRequest(dispute_status=statuses)
    return [each.transaction_id for each in (await service.ask(ADMIN, "ListTransactions", request)).transactions]


async def dispute_comes(service, seen):
    """The transaction, once its dispute was heard of."""
    for _ in range(200):
        await service.work(hurried=True)
        found = await service.get(seen.transaction_id)
        if found.dispute_status != T.NONE:
            return found
        service.clock.advance(timedelta(hours=1))
        await asyncio.sleep(0.02)
    raise AssertionError("no dispute came")


async def dispute_becomes(service, seen, status):
    for _ in range(200):
        service.clock.advance(timedelta(days=1))
        await service.work(hurried=True)
        found = await service.get(seen.transaction_id)
        if found.dispute_status == status:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"the dispute is {found.dispute_status}")


# --- paid, or not ---


async def test_a_card_is_entered_on_the_provider_s_page_and_no_number_of_it_comes_here(service, url, books) -> None:
    started = await start_by_card(service)
    request = transactions_pb2.GetTransactionRequest(transaction_id=started.transaction_id)
    page = (await service.ask(INVESTOR, "GetTransaction", request)).payer_action_url
    assert page == f"{url}/pay/{started.provider_reference}", "who acts for the party alone is told"
    pay(url, started.provider_reference)
    await service.work(hurried=True)
    seen = await service.get(started.transaction_id)
    assert (seen.status, seen.card.brand, seen.card.last4) == (T.SETTLED, "visa", "4242")
    assert (seen.dispute_status, seen.bank_account_id) == (T.NONE, "")
    await jump(service, seen, "return_risk_end_time")
    assert (await service.get(seen.transaction_id)).status == T.COMPLETED
    await jump(service, seen, "final_time")
    final = await service.get(seen.transaction_id)
    assert (final.finality, final.explanations.final_time.rule) == (T.FINAL, "CARD_DISPUTE")


async def test_a_page_that_a_login_wrote_is_told_to_nobody(service) -> None:
    """A payer goes where it is told, and no second person stands between."""
    started = await start_by_card(service)
    async with service.database.begin_for_all() as tx:
        await tx.execute(
            sa.text("UPDATE transactions SET version = version + 1, payer_action_url = 'https://elsewhere'")
        )
    request = transactions_pb2.GetTransactionRequest(transaction_id=started.transaction_id)
    with pytest.raises(NotSealed):
        await service.ask(INVESTOR, "GetTransaction", request)
    listed = await service.ask(INVESTOR, "ListTransactions", transactions_pb2.ListTransactionsRequest())
    assert [each.transaction_id for each in listed.transactions] == [started.transaction_id]
    assert "elsewhere" not in str(listed)


@pytest.mark.parametrize("order", ["as they came", "the last first, each twice"])
async def test_webhooks_of_a_card_payment_bring_it_to_where_it_is_in_any_order(service, webhooks, url, order) -> None:
    started = await start_by_card(service)
    pay(url, started.provider_reference, "pm_card_chargeDeclined", says="declined")
    pay(url, started.provider_reference)
    received = await told_of(webhooks, started.transaction_id, "checkout.session.completed")
    await deliver(service, received if order == "as they came" else [*received[::-1], *received])
    await service.work()
    seen = await service.get(started.transaction_id)
    assert (seen.status, seen.attempts) == (T.SETTLED, 1)
    applied = (await service.ask(ADMIN, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())).webhooks
    assert {each.status for each in applied} == {webhooks_pb2.Webhook.APPLIED}


@pytest.mark.parametrize(
    ("card", "code", "said"),
    [
        ("", "", ""),
        ("pm_card_chargeDeclined", "generic_decline", "generic decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds", "insufficient funds"),
        ("pm_card_chargeDeclinedLostCard", "lost_card", "lost card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired card"),
    ],
)
async def test_a_page_that_expires_ends_the_contribution_and_says_why_the_card_was_declined(
    service, url, card, code, said
) -> None:
    started = await start_by_card(service)
    if card:
        pay(url, started.provider_reference, card, says="declined")
        await service.work(hurried=True)
        assert (await service.get(started.transaction_id)).status == T.PENDING_SETTLEMENT, "another card may do"
    await post(url, f"checkout/sessions/{started.provider_reference}/expire")
    await service.work(hurried=True)
    ended = await service.get(started.transaction_id)
    told = await read_last_event(service, ended.transaction_id, TransactionFailed if card else TransactionCancelled)
    assert told.transaction.failure == ended.failure
    if card:
        assert (ended.status, ended.failure.code) == (T.FAILED, "DECLINED_BY_PROVIDER")
        assert dict(ended.failure.metadata) == {"network_code": code}, "where ACH has its return code"
        assert f"declined: {said}”." in ended.failure.message
    else:
        assert (ended.status, ended.HasField("failure")) == (T.CANCELLED, False)
    assert not ended.failure.retryable
    assert not ended.HasField("payer_action_url")


async def test_a_page_is_made_once_and_found_by_our_id_and_by_what_is_paid_there(stripe, url, books) -> None:
    order = a_card_order()
    made = await stripe.submit(order)
    assert (await stripe.submit(order)).payment_id == made.payment_id
    assert await stripe.list_payments(order.reference) == [made]
    pay(url, made.payment_id)
    paid = await becomes(stripe, made.payment_id, PaymentStatus.SETTLED)
    assert paid.card == ("visa", "4242")
    assert await stripe.get_payment(read(books, made.payment_id)["payment_intent"]) == paid
    assert await stripe.list_payments(order.reference) == [paid]


async def test_what_is_not_wanted_any_more_takes_no_card(service, url, books) -> None:
    started = await start_by_card(service)
    service.distributions.investments[started.investment_id].status = Investment.CANCELLED
    await service.work(hurried=True)
    pay(url, started.provider_reference, says="Nobody pays there any more")
    assert (await service.get(started.transaction_id)).status == T.CANCELLED


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"type": T.DEPOSIT, "investment_id": None}, "PAYMENT_METHOD_NOT_SUPPORTED"),
        ({"type": T.PLATFORM_FEE, "investment_id": None}, "PAYMENT_METHOD_NOT_SUPPORTED"),
    ],
    ids=["cash of the issuer", "a fee"],
)
async def test_cards_carry_contributions_alone(service, more, reason) -> None:
    request = await service.deposit_request(**{"payment_method": T.CARD, "bank_account_id": None} | more)
    with pytest.raises(DomainError) as refusal:
        await service.ask(ADMIN, "CreateTransaction", request)
    assert refusal.value.reason == reason


async def test_a_card_names_no_bank_account_and_is_refused_where_nobody_was_chosen(service_database) -> None:
    service = TransactionsHarness(await service_database("transactions"))
    named = await service.deposit_request(payment_method=T.CARD)
    with pytest.raises(DomainError) as refusal:
        await service.ask(ADMIN, "CreateTransaction", named)
    assert "bank_account_id" in refusal.value.fields
    with pytest.raises(DomainError) as refusal:
        await service.deposit(payment_method=T.CARD, bank_account_id=None)
    assert refusal.value.reason == "PAYMENT_METHOD_NOT_SUPPORTED"


@pytest.mark.parametrize(
    ("page", "is_taken"),
    [("https://x.example/paid", True), ("http://127.0.0.1:1/", True), ("", False), ("http://x.example/", False)],
)
def test_payers_are_taken_back_to_a_page_by_tls(page, is_taken) -> None:
    if is_taken:
        check_return_url(page)
        return
    with pytest.raises(ConfigurationError, match="STRIPE_RETURN_URL"):
        check_return_url(page)


# --- disputes ---


@pytest.mark.parametrize("card", ["pm_card_createDispute", "pm_card_createDisputeInquiry"])
async def test_a_dispute_calls_a_person_with_its_date_and_the_money_is_not_final_until_it_is_won(
    service, url, card
) -> None:
    seen = await dispute_comes(service, await pay_by_card(service, url, card))
    assert (seen.status, seen.dispute_status, seen.dispute_reason) == (T.SETTLED, T.NEEDS_RESPONSE, "fraudulent")
    assert seen.HasField("dispute_response_due_time")
    [found] = await list_disputed(service)
    assert (found.transaction_id, found.status) == (seen.transaction_id, exceptions_pb2.PaymentException.OPEN)
    assert seen.dispute_reference in found.cause
    assert await list_by_dispute(service, T.NEEDS_RESPONSE, T.WON) == [seen.transaction_id]
    await jump(service, seen, "final_time")
    held = await service.get(seen.transaction_id)
    assert (held.status, held.finality) == (T.SETTLED, T.PROVISIONAL), "it may yet be lost"
    await answer_dispute(url, seen.dispute_reference, "winning_evidence")
    won = await dispute_becomes(service, seen, T.WON)
    assert not won.HasField("dispute_response_due_time")
    assert await list_by_dispute(service, T.NEEDS_RESPONSE, T.LOST) == []
    [told] = await list_disputed(service)
    assert (told.status, "it is won" in told.cause) == (found.status, True)
    service.clock.advance(timedelta(days=1))  # to the next look at it
    await service.work(hurried=True)
    after = await service.get(seen.transaction_id)
    assert (after.status, after.finality) == (T.COMPLETED, T.FINAL)


@pytest.mark.parametrize("how", ["answered in vain", "given up at the provider"])
async def test_what_is_lost_has_come_back_also_after_it_was_completed(service, url, books, how) -> None:
    paid = await pay_by_card(service, url)
    await jump(service, paid, "return_risk_end_time")
    assert (await service.get(paid.transaction_id)).status == T.COMPLETED
    await have_disputed(url, books, paid.provider_reference)
    seen = await dispute_comes(service, paid)
    assert (seen.status, seen.dispute_status) == (T.COMPLETED, T.NEEDS_RESPONSE)
    if how == "answered in vain":
        await answer_dispute(url, seen.dispute_reference, "losing_evidence")
    else:
        await post(url, f"disputes/{seen.dispute_reference}/close")
    lost = await dispute_becomes(service, seen, T.LOST)
    assert (lost.status, lost.failure.code, lost.failure.retryable) == (T.RETURNED, "DISPUTE_LOST", False)
    assert "fraudulent" in lost.failure.message
    assert [each.occurrence_count >= 2 for each in await list_disputed(service)] == [True]


@pytest.mark.parametrize("order", ["as they came", "the last first, each twice"])
async def test_webhooks_of_a_dispute_bring_it_to_where_it_is_in_any_order(service, webhooks, url, order) -> None:
    seen = await dispute_comes(service, await pay_by_card(service, url, "pm_card_createDispute"))
    await answer_dispute(url, seen.dispute_reference, "losing_evidence")
    received = await told_of(webhooks, seen.dispute_reference, "charge.dispute.closed")
    await deliver(service, received if order == "as they came" else [*received[::-1], *received])
    await service.work()
    after = await service.get(seen.transaction_id)
    assert (after.status, after.dispute_status, after.failure.code) == (T.RETURNED, T.LOST, "DISPUTE_LOST")


async def test_what_is_answered_at_the_provider_is_told_whoever_answered(service, url) -> None:
    seen = await dispute_comes(service, await pay_by_card(service, url, "pm_card_createDispute"))
    before = count_found(ExceptionKind.CARD_DISPUTED)
    await answer_dispute(url, seen.dispute_reference, "nothing that helps")
    under_review = await dispute_becomes(service, seen, T.UNDER_REVIEW)
    assert not under_review.HasField("dispute_response_due_time")
    assert count_found(ExceptionKind.CARD_DISPUTED) > before
    assert "somebody has answered" in (await list_disputed(service))[0].cause


async def test_a_dispute_of_a_part_that_is_lost_moves_nothing_and_calls_a_person(service, url, books) -> None:
    seen = await dispute_comes(service, await pay_by_card(service, url, "pm_card_createDispute"))
    before = count_found(ExceptionKind.PAYMENT_NOT_OURS)
    alter(books, seen.dispute_reference, amount=40_00, status="lost")
    await jump(service, seen, "final_time")
    after = await service.get(seen.transaction_id)
    assert (after.status, after.finality) == (T.SETTLED, T.PROVISIONAL)
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) > before


async def test_what_was_lost_and_is_won_after_all_is_told(service, url, books) -> None:
    seen = await dispute_comes(service, await pay_by_card(service, url, "pm_card_createDispute"))
    await post(url, f"disputes/{seen.dispute_reference}/close")
    await dispute_becomes(service, seen, T.LOST)
    before = count_found(ExceptionKind.PAYMENT_NOT_OURS)
    alter(books, seen.dispute_reference, status="won")
    intent = read(books, seen.provider_reference)["payment_intent"]
    await tell(service, "evt_appeal_won", "charge.dispute.funds_reinstated", payment_intent=intent)
    await service.work(hurried=True)
    after = await service.get(seen.transaction_id)
    assert (after.status, after.dispute_status) == (T.RETURNED, T.LOST)
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) > before


# --- who has the key ---


@pytest.mark.parametrize("back", [1, 100_00])
async def test_a_refund_of_a_card_at_stripe_is_told_and_the_money_does_not_count_as_there(
    service, url, books, back
) -> None:
    seen, before = await pay_by_card(service, url), count_found(ExceptionKind.PAYMENT_NOT_OURS)
    charge = read(books, read(books, seen.provider_reference)["payment_intent"])["latest_charge"]
    alter(books, charge, amount_refunded=back, refunded=back == 100_00)
    await jump(service, seen, "return_risk_end_time")
    assert (await service.get(seen.transaction_id)).status == T.SETTLED
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) > before


@pytest.mark.parametrize(
    ("of", "changed"),
    [
        ("page", {"metadata": {}}),
        ("page", {"customer": "cus_another"}),
        ("page", {"mode": "setup"}),
        ("payment", {"amount": 1}),
        ("payment", {"metadata": {"reference": "txn_of_another"}}),
        ("payment", {"transfer_data": {"destination": "acct_thief"}}),
        ("payment", {"on_behalf_of": "acct_thief"}),
    ],
    ids=str,
)
async def test_a_page_or_payment_that_somebody_changed_at_stripe_is_none_of_ours(stripe, url, books, of, changed):
    made = await stripe.submit(a_card_order())
    pay(url, made.payment_id)
    intent = read(books, made.payment_id)["payment_intent"]
    alter(books, made.payment_id if of == "page" else intent, **changed)
    assert (await stripe.get_payment(made.payment_id)).reference == ""
    assert (await stripe.get_payment(intent)).reference == ""


async def test_a_page_with_copied_words_is_none_of_ours(stripe, url, books) -> None:
    """Whoever has the key makes another page under our id: it is another customer's."""
    order = a_card_order()
    ours, forged = await stripe.submit(order), await stripe.submit(a_card_order())
    alter(books, forged.payment_id, metadata=read(books, ours.payment_id)["metadata"])
    alter(books, read(books, forged.payment_id)["customer"], metadata={"reference": order.reference})
    assert [each.payment_id for each in await stripe.list_payments(order.reference)] == [ours.payment_id]


async def test_what_others_are_paid_by_card_at_the_same_account_is_left_alone(service, url, books) -> None:
    before = count_found(ExceptionKind.PAYMENT_NOT_OURS)
    headers = {"Authorization": f"Bearer {API_KEY}"}
    form = {"mode": "payment", "payment_method_types[0]": "card", "success_url": "https://shop.example/"}
    price = "line_items[0][price_data]"
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        customer = (await client.post("/v1/customers", data={"name": "A buyer"})).json()["id"]
        form |= {"customer": customer, f"{price}[unit_amount]": "500", f"{price}[currency]": "usd"}
        page = (await client.post("/v1/checkout/sessions", data=form)).raise_for_status().json()["id"]
    pay(url, page)
    payment = await service.provider.get_payment(read(books, page)["payment_intent"])
    assert (payment.reference, payment.is_misused) == ("", False)
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) == before
