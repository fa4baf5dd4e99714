"""What Stripe says that it kept of a debit once that was presented again, or is over: booked, or told to people."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from realco.transactions.v1 import exceptions_pb2, transactions_pb2

from sandbox.stripe.fees import FAILED_DEBIT_FEE
from services.chassis.values.ids import new_id
from services.chassis.values.money import spell_money
from services.transactions.providers.stripe.states import read_payment
from tests.integration.stripe_desk import ROUTING_NUMBER, T, alter, confirm, post, read, tell
from tests.integration.test_transactions_provider_fees import costs
from tests.support.money import usd
from tests.support.transactions import ADMIN, INVESTOR, TransactionsHarness

pytest_plugins = ("tests.integration.stripe_desk",)
LATE = 4_00


@pytest.fixture
def service(stripe_service: TransactionsHarness) -> TransactionsHarness:
    return stripe_service


@pytest.fixture
async def back(service: TransactionsHarness, url: str) -> T:
    """A debit that came back as R01, and waits to be presented again."""
    account = await service.bank_account("inv-001", routing_number=ROUTING_NUMBER, account_number="000222222227")
    made = await service.deposit(bank_account_id=account.bank_account_id)
    await service.work()
    confirm(url, (await service.get(made.transaction_id)).provider_reference)
    found = await costs(service, made.transaction_id, FAILED_DEBIT_FEE)
    assert found.status == T.PENDING_RETRY
    return found


async def say_late(service: TransactionsHarness, books, intent_id: str) -> None:
    """Stripe has kept more of a payment that is over for it."""
    charge = read(books, read(books, intent_id)["latest_charge"])
    kept = read(books, charge["failure_balance_transaction"])
    alter(books, kept["id"], fee=kept["fee"] + LATE)
    await tell(service, "evt_late", "charge.updated", id=charge["id"], object="charge", payment_intent=intent_id)
    await service.work(hurried=True)


async def list_causes(service: TransactionsHarness) -> list[str]:
    request = exceptions_pb2.ListPaymentExceptionsRequest(kind=["PAYMENT_NOT_OURS"])
    return [each.cause for each in (await service.ask(ADMIN, "ListPaymentExceptions", request)).payment_exceptions]


async def test_what_was_kept_of_what_came_back_is_told_though_it_was_cancelled(service, back, books) -> None:
    request = transactions_pb2.CancelTransactionRequest(transaction_id=back.transaction_id, idempotency_key=new_id("k"))
    assert (await service.ask(INVESTOR, "CancelTransaction", request)).status == T.CANCELLED
    await say_late(service, books, back.provider_reference)
    assert (await service.get(back.transaction_id)).provider_fee == usd(FAILED_DEBIT_FEE + LATE)
    assert await list_causes(service) == []


@pytest.mark.parametrize("is_another", [False, True])
async def test_a_charge_that_failed_after_its_payment_was_read_is_not_drawn_again(back, books, is_another) -> None:
    """The payment is read, and then its charges: the bank may send it back between the two."""
    intent = read(books, back.provider_reference)
    failed = {"id": intent["latest_charge"], "status": "failed"}
    latest = {"id": "ch_of_now" if is_another else failed["id"]}
    under_way = intent | {"status": "processing", "latest_charge": latest}
    assert read_payment(under_way, [], lambda _: True, [failed]).is_drawn_again is is_another


async def test_a_debit_that_came_back_is_followed_though_nobody_believes_its_fee(service, url, books) -> None:
    account = await service.bank_account("inv-001", routing_number=ROUTING_NUMBER, account_number="000111111113")
    made = await service.deposit(bank_account_id=account.bank_account_id)
    await service.work()
    intent_id = (await service.get(made.transaction_id)).provider_reference
    confirm(url, intent_id)
    for _ in range(200):
        await post(url, "customers", name="wake")
        if kept := read(books, read(books, intent_id)["latest_charge"]).get("failure_balance_transaction"):
            break
        await asyncio.sleep(0.02)
    alter(books, kept, fee=10**9)
    service.clock.advance(timedelta(days=1))
    await service.work(hurried=True)
    back = await service.get(made.transaction_id)
    assert (back.status, back.HasField("provider_fee")) == (T.RETURNED, False)
    assert await list_causes(service) == ["the provider says that it kept more of it than there was"]


async def test_what_was_kept_of_what_was_presented_again_has_a_person_look(service, back, books) -> None:
    service.clock.set(back.next_attempt_time.ToDatetime().astimezone(service.clock.now().tzinfo))
    await service.work()
    again = await service.get(back.transaction_id)
    assert (again.presentments, again.provider_reference != back.provider_reference) == (2, True)
    await say_late(service, books, back.provider_reference)
    kept = spell_money(FAILED_DEBIT_FEE + LATE, "USD")
    assert await list_causes(service) == [
        f"the provider kept {kept} of an attempt that had ended before: it is in no book"
    ]
    assert (await service.get(back.transaction_id)).provider_fee == usd(FAILED_DEBIT_FEE)
