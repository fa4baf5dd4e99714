"""What Stripe keeps for itself is told with the payment it was kept of, over the stand-in, at Stripe's list prices."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from realco.transactions.v1 import exceptions_pb2, transactions_pb2

from sandbox.stripe.fees import DISPUTE_FEE, FAILED_DEBIT_FEE, compute_card_fee, compute_debit_fee
from services.transactions.domain.payments import Payment, PaymentStatus, is_fee_absurd
from services.transactions.providers.stripe.fees import sum_fees
from tests.integration.stripe_desk import (
    ROUTING_NUMBER,
    T,
    alter,
    answer_dispute,
    becomes,
    confirm,
    have_disputed,
    pay_by_card,
    read,
)
from tests.support.money import usd
from tests.support.payment_orders import an_order
from tests.support.transactions import ADMIN, INVESTOR, TransactionsHarness

MINOR = an_order().amount.amount_minor

pytest_plugins = ("tests.integration.stripe_desk",)


@pytest.fixture
def service(stripe_service: TransactionsHarness) -> TransactionsHarness:
    return stripe_service


async def costs(service, transaction_id: str, minor: int):
    """The transaction, once its provider is known to have kept that."""
    for _ in range(200):
        service.clock.advance(timedelta(hours=6))
        await service.work(hurried=True)
        found = await service.get(transaction_id)
        if found.HasField("provider_fee") and found.provider_fee == usd(minor):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"its fee is {found.provider_fee}, and not {minor}")


async def test_staff_is_told_the_fee_of_a_card_with_its_settlement_and_the_investor_is_not(service, url) -> None:
    paid = await pay_by_card(service, url)
    assert paid.provider_fee == usd(compute_card_fee(paid.amount.amount_minor))
    request = transactions_pb2.GetTransactionRequest(transaction_id=paid.transaction_id)
    assert (await service.ask(ADMIN, "GetTransaction", request)).HasField("provider_fee")
    assert not (await service.ask(INVESTOR, "GetTransaction", request)).HasField("provider_fee")


async def test_a_dispute_costs_until_it_is_won(service, url, books) -> None:
    paid = await pay_by_card(service, url)
    fee = compute_card_fee(paid.amount.amount_minor)
    await have_disputed(url, books, paid.provider_reference)
    disputed = await costs(service, paid.transaction_id, fee + DISPUTE_FEE)
    await answer_dispute(url, disputed.dispute_reference, "winning_evidence")
    won = await costs(service, paid.transaction_id, fee)
    assert won.dispute_status == T.WON


async def test_the_fees_of_each_attempt_count(service, url) -> None:
    account = await service.bank_account("inv-001", routing_number=ROUTING_NUMBER, account_number="000222222227")
    made = await service.deposit(bank_account_id=account.bank_account_id)
    for attempt in (1, 2, 3):
        await service.work()
        confirm(url, (await service.get(made.transaction_id)).provider_reference)
        back = await costs(service, made.transaction_id, attempt * FAILED_DEBIT_FEE)
        assert back.presentments == attempt
        if back.status == T.PENDING_RETRY:
            service.clock.set(back.next_attempt_time.ToDatetime().astimezone(service.clock.now().tzinfo))
    assert back.status == T.RETURNED


@pytest.mark.parametrize(
    ("number", "fee"),
    [
        ("000123456789", compute_debit_fee(MINOR)),
        ("000111111113", FAILED_DEBIT_FEE),
        ("000555555559", compute_debit_fee(MINOR) + DISPUTE_FEE),
    ],
    ids=["it settles", "it comes back", "it is disputed"],
)
async def test_a_debit_has_the_fee_of_what_became_of_it(stripe, url, number, fee) -> None:
    payment = await stripe.submit(an_order(number))
    assert payment.fee_minor is None
    confirm(url, payment.payment_id)
    settles = number == "000123456789"
    ended = await becomes(stripe, payment.payment_id, PaymentStatus.SETTLED if settles else PaymentStatus.RETURNED)
    assert ended.fee_minor == fee


async def test_a_provider_that_says_it_kept_more_than_there_was_has_a_person_look(service, url, books) -> None:
    paid = await pay_by_card(service, url)
    charge = read(books, read(books, read(books, paid.provider_reference)["payment_intent"])["latest_charge"])
    alter(books, charge["balance_transaction"], fee=10**9)
    service.clock.advance(timedelta(days=1))
    await service.work(hurried=True)
    request = exceptions_pb2.ListPaymentExceptionsRequest(kind=["PAYMENT_NOT_OURS"])
    [told] = (await service.ask(ADMIN, "ListPaymentExceptions", request)).payment_exceptions
    assert told.cause == "the provider says that it kept more of it than there was"
    assert (await service.get(paid.transaction_id)).provider_fee == paid.provider_fee


@pytest.mark.parametrize(
    ("charge", "disputes", "fee"),
    [
        ({}, [], None),
        ({"balance_transaction": "txn_1"}, [], None),
        ({"balance_transaction": {"fee": 59, "currency": "usd"}}, [], 59),
        ({"balance_transaction": {"fee": 0, "currency": "usd"}}, [], 0),
        (
            {"balance_transaction": {"fee": 8, "currency": "usd"}},
            [{"balance_transactions": [{"fee": 1500, "currency": "usd"}, {"fee": -1500, "currency": "usd"}]}],
            8,
        ),
        ({"balance_transaction": {"fee": -5, "currency": "usd"}}, [], 0),
        ({"balance_transaction": {"fee": 59, "currency": "eur"}}, [], None),
    ],
    ids=["nothing said", "not shown", "a fee", "billed", "given back", "less than nothing", "of another currency"],
)
def test_what_stripe_says_of_fees_adds_up(charge, disputes, fee) -> None:
    assert sum_fees("USD", charge, disputes) == fee


@pytest.mark.parametrize(("amount", "fee", "is_absurd"), [(100, 5000, False), (100, 5001, True), (9000, 9000, False)])
def test_a_fee_may_be_as_much_as_the_payment_or_as_a_dispute_costs(amount, fee, is_absurd) -> None:
    order = an_order()
    payment = Payment(
        payment_id="pi_1",
        reference=order.reference,
        status=PaymentStatus.SETTLED,
        amount=type(order.amount)(amount, "USD"),
        is_inbound=True,
        presentment=1,
        changed_at=None,
        fee_minor=fee,
    )
    assert is_fee_absurd(payment) is is_absurd
