"""What whoever holds our key at Stripe, or signs in there, can make of our payments: nothing moves unseen by it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa
from realco.distributions.v1.offerings_pb2 import Investment
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import webhooks_pb2
from structlog.testing import capture_logs

from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.providers.stripe.payments import StripePayments
from tests.integration.stripe_desk import (
    API_KEY,
    T,
    alter,
    becomes,
    confirm,
    deliver,
    read,
    start,
    told_of,
)
from tests.support.exceptions import count_found, list_exceptions
from tests.support.payment_orders import an_order
from tests.support.servers import tamper
from tests.support.transactions import ADMIN, TransactionsHarness
from tests.support.vault import build_vault

pytest_plugins = ("tests.integration.stripe_desk",)


@pytest.fixture
def service(stripe_service: TransactionsHarness) -> TransactionsHarness:
    return stripe_service


def count_alarms() -> float:
    return count_found(ExceptionKind.PAYMENT_NOT_OURS)


async def settle(service, stripe, url):
    """A contribution that arrived, and its charge."""
    started = await start(service)
    confirm(url, started.provider_reference)
    await becomes(stripe, started.provider_reference, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    seen = await service.get(started.transaction_id)
    assert seen.status == T.SETTLED
    return seen


@pytest.mark.parametrize("back", [1, 50_00, 100_00])
async def test_what_is_paid_back_at_stripe_is_not_still_there(service, stripe, url, books, back) -> None:
    seen, before = await settle(service, stripe, url), count_alarms()
    alter(books, read(books, seen.provider_reference)["latest_charge"], amount_refunded=back, refunded=back == 100_00)
    service.clock.set(seen.return_risk_end_time.ToDatetime().astimezone(service.clock.now().tzinfo))
    with capture_logs() as logs:
        await service.work(hurried=True)
    assert (await service.get(seen.transaction_id)).status == T.SETTLED, "it is not completed"
    assert count_alarms() > before
    [cause] = {each["cause"] for each in logs if each["event"] == "payment_not_ours"}
    assert cause == f"{back / 100:.2f} USD of it was paid back at the provider, or is disputed there"


async def test_what_is_disputed_is_not_still_there_and_what_is_lost_has_come_back(service, stripe, url, books) -> None:
    seen, before = await settle(service, stripe, url), count_alarms()
    charge = read(books, seen.provider_reference)["latest_charge"]
    alter(books, charge, disputed=True)
    with pytest.raises(OutcomeUnknown, match="tells of no dispute"):
        await stripe.get_payment(seen.provider_reference)
    lost = await stripe.submit(an_order("000555555559"))
    confirm(url, lost.payment_id)
    await becomes(stripe, lost.payment_id, PaymentStatus.RETURNED)
    [dispute] = await list_disputes(url, read(books, lost.payment_id)["latest_charge"])
    alter(books, dispute["id"], status="under_review", charge=charge, reason="general")
    service.clock.set(seen.return_risk_end_time.ToDatetime().astimezone(service.clock.now().tzinfo))
    await service.work(hurried=True)
    assert (await service.get(seen.transaction_id)).status == T.SETTLED
    assert count_alarms() > before
    alter(books, dispute["id"], status="lost", network_reason_code=None)
    await service.work(hurried=True)
    back = await service.get(seen.transaction_id)
    assert (back.status, back.failure.metadata["network_code"]) == (T.RETURNED, "R17"), "a person looks"


@pytest.mark.parametrize(("amounts", "refunded", "status", "cause"), [
    ([1], 0, T.SETTLED, "0.01 USD of it was paid back"),
    ([250_00], 0, T.SETTLED, "250.00 USD of it was paid back"),
    ([100_00, 100_00], 0, T.RETURNED, "it came back, and 100.00 USD was paid back"),
    ([100_00], 100_00, T.RETURNED, "it came back, and 100.00 USD was paid back"),
])  # fmt: skip
async def test_what_was_taken_back_of_a_debit_besides_the_whole_of_it_once_is_told(
    service, stripe, url, books, amounts, refunded, status, cause
) -> None:
    seen = await settle(service, stripe, url)
    charge = read(books, seen.provider_reference)["latest_charge"]
    for amount in amounts:
        lost = await stripe.submit(an_order("000555555559"))
        confirm(url, lost.payment_id)
        await becomes(stripe, lost.payment_id, PaymentStatus.RETURNED)
        [dispute] = await list_disputes(url, read(books, lost.payment_id)["latest_charge"])
        alter(books, dispute["id"], status="lost", charge=charge, amount=amount)
    alter(books, charge, disputed=True, amount_refunded=refunded)
    service.clock.set(seen.return_risk_end_time.ToDatetime().astimezone(service.clock.now().tzinfo))
    await service.work(hurried=True)
    assert (await service.get(seen.transaction_id)).status == status
    [told] = await list_exceptions(service, kind=["PAYMENT_NOT_OURS"])
    assert told.cause.startswith(cause)


async def list_disputes(url, charge):
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        return (await client.get("/v1/disputes", params={"charge": charge})).json()["data"]


@pytest.mark.parametrize("changed", [{}, {"presentment": "x"}, {"reference": "txn_of_another"}, {"proof": ""}])
async def test_a_payment_whose_words_somebody_changed_is_told_and_not_followed(
    service, stripe, url, books, webhooks, changed
) -> None:
    started, before = await start(service), count_alarms()
    metadata = read(books, started.provider_reference)["metadata"]
    alter(books, started.provider_reference, metadata=metadata | changed if changed else {})
    confirm(url, started.provider_reference)
    await deliver(service, await told_of(webhooks, started.provider_reference, "payment_intent.succeeded"))
    await service.work(hurried=True)
    assert (await service.get(started.transaction_id)).status == T.PENDING_SETTLEMENT
    assert count_alarms() > before
    hooks = (await service.ask(ADMIN, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())).webhooks
    assert {each.failure.code for each in hooks} == {"PAYMENT_NOT_OURS"}


async def test_a_payment_with_our_proof_whose_order_a_restore_lost_is_told(service, url, webhooks, postgres) -> None:
    started, before = await start(service), count_alarms()
    await tamper(postgres.admin_dsn, service.database, "DELETE FROM provider_payments")
    confirm(url, started.provider_reference)
    await deliver(service, await told_of(webhooks, started.provider_reference, "payment_intent.succeeded"))
    with capture_logs() as logs:
        await service.work()
    assert count_alarms() > before
    [cause] = {each["cause"] for each in logs if each["event"] == "payment_not_ours"}
    assert (
        cause == f"it is our order {started.transaction_id}, of which this database knows no attempt: was it restored?"
    )


async def test_a_payment_that_draws_from_another_account_is_none_of_ours(stripe, url, books) -> None:
    ours, theirs = await stripe.submit(an_order()), await stripe.submit(an_order("000123456780"))
    other = read(books, theirs.payment_id)
    alter(books, ours.payment_id, payment_method=other["payment_method"], customer=other["customer"])
    assert (await stripe.get_payment(ours.payment_id)).reference == ""


async def test_an_account_of_the_same_last_digits_is_another_one(stripe, url, books) -> None:
    ours = await stripe.submit(an_order("000111112222"))
    alike = await stripe.submit(an_order("999888772222"))
    confirm(url, alike.payment_id)
    await becomes(stripe, alike.payment_id, PaymentStatus.SETTLED)
    other = read(books, alike.payment_id)
    alter(books, ours.payment_id, payment_method=other["payment_method"], customer=other["customer"])
    assert (await stripe.get_payment(ours.payment_id)).reference == ""
    again = await stripe.submit(an_order("000111112222", confirmed_payment_id=ours.payment_id))
    assert again.payer_action_url != "", "nothing of it counts as confirmed"


async def test_what_came_back_and_was_drawn_again_before_anybody_asked_is_told(service, stripe, url, books) -> None:
    started, before = await start(service), count_alarms()
    confirm(url, started.provider_reference)
    for _ in range(100):
        if read(books, started.provider_reference)["status"] == "succeeded":
            break
        await asyncio.sleep(0.02)
    charge = read(books, started.provider_reference)["latest_charge"]
    other = await stripe.submit(an_order("000222222227"))
    confirm(url, other.payment_id)
    await becomes(stripe, other.payment_id, PaymentStatus.RETURNED)
    alter(books, read(books, other.payment_id)["latest_charge"], payment_intent=started.provider_reference)
    assert charge != read(books, other.payment_id)["latest_charge"]
    await service.work(hurried=True)
    assert (await service.get(started.transaction_id)).status == T.PENDING_SETTLEMENT
    assert count_alarms() > before


async def test_an_order_is_made_once_whatever_becomes_of_our_keys_and_of_what_was_confirmed(stripe, url) -> None:
    order = an_order()
    first = await stripe.submit(order)
    rotated = StripePayments(API_KEY, url, build_vault(b"b" * 32))
    with suppress(OutcomeUnknown):
        await rotated.submit(order)
    confirmed = await stripe.submit(an_order())
    confirm(url, confirmed.payment_id)
    await becomes(stripe, confirmed.payment_id, PaymentStatus.SETTLED)
    with suppress(OutcomeUnknown):
        await stripe.submit(replace(order, confirmed_payment_id=confirmed.payment_id))
    assert [each.payment_id for each in await rotated.list_payments(order.reference)] == [first.payment_id]
    await rotated.close()


async def test_a_payment_that_the_key_alone_made_is_not_taken_for_an_attempt(stripe, url, books) -> None:
    """Its words are those of ours; the proof of the attempt that it pretends to be is not."""
    order = an_order()
    ours = await stripe.submit(order)
    forged = await stripe.submit(an_order("000123456780"))
    copied = read(books, ours.payment_id)["metadata"]
    alter(books, forged.payment_id, metadata=copied | {"presentment": "2"})
    assert await stripe.list_payments(order.reference) == [ours]
    alter(books, forged.payment_id, metadata=copied)
    assert await stripe.list_payments(order.reference) == [ours], "it draws from another account"


@pytest.mark.parametrize(
    "changed",
    [
        {"transfer_data": {"destination": "acct_thief"}},
        {"on_behalf_of": "acct_thief"},
        {"application_fee_amount": 1},
        {"application": "ca_thief"},
    ],
    ids=str,
)
async def test_a_payment_whose_money_goes_to_another_account_at_stripe_is_none_of_ours(stripe, books, changed) -> None:
    order = an_order()
    ours = await stripe.submit(order)
    alter(books, ours.payment_id, **changed)
    assert (await stripe.get_payment(ours.payment_id)).reference == ""
    assert await stripe.list_payments(order.reference) == []


@pytest.mark.parametrize(
    "kept", [frozenset(), {"proof"}, {"presentment"}], ids=["no words", "a proof", "a presentment"]
)
async def test_who_else_is_paid_at_the_same_account_is_left_alone_and_told_if_it_bears_words_of_ours(
    service, stripe, url, books, webhooks, kept
) -> None:
    """Another product of the same company, or an order whose answer was lost, and whose words somebody changed."""
    theirs, before = await stripe.submit(an_order("000222222227")), count_alarms()
    words = {name: text for name, text in read(books, theirs.payment_id)["metadata"].items() if name in kept}
    alter(books, theirs.payment_id, metadata=words | {"order": "shop-42"})
    confirm(url, theirs.payment_id)
    await deliver(service, await told_of(webhooks, theirs.payment_id, "payment_intent.payment_failed"))
    await service.work(hurried=True)
    assert read(books, theirs.payment_id)["status"] == "requires_payment_method", "it may be tried again"
    assert (count_alarms() > before) is bool(kept)


async def test_what_had_no_answer_until_stripe_forgets_its_key_is_not_ordered_again(
    service, stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = []

    async def lose(order):
        ordered.append(order.key)
        raise OutcomeUnknown("the provider answered 500")

    monkeypatch.setattr(stripe, "submit", lose)
    made = await service.deposit()
    await service.work()
    await service.work(hurried=True)
    assert len(set(ordered)) == 1 < len(ordered), "the same key is the same payment"
    tries = len(ordered)
    service.clock.advance(timedelta(hours=23, minutes=5))
    with capture_logs() as logs:
        await service.work(hurried=True)
    ended = await service.get(made.transaction_id)
    assert (ended.status, ended.failure.code, ended.failure.retryable) == (T.FAILED, "NOT_FOUND_AT_PROVIDER", False)
    assert len(ordered) == tries
    assert [each["transaction_id"] for each in logs if each["event"] == "order_given_up"] == [made.transaction_id]


async def test_nobody_uses_up_the_key_of_an_order_that_is_still_to_come(stripe, url) -> None:
    order = an_order()
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        headers = {"Authorization": f"Bearer {API_KEY}", "Idempotency-Key": order.key}
        await client.post("/v1/customers", data={"name": "Mallory"}, headers=headers)
    assert (await stripe.submit(order)).status is PaymentStatus.PENDING


async def test_what_came_back_is_closed_at_stripe_before_it_is_presented_again(stripe, url, books) -> None:
    first = an_order("000222222227")
    payment = await stripe.submit(first)
    confirm(url, payment.payment_id)
    await becomes(stripe, payment.payment_id, PaymentStatus.RETURNED)
    assert read(books, payment.payment_id)["status"] == "canceled"
    assert (await stripe.get_payment(payment.payment_id)).return_code == "R01", "it came back all the same"
    again = an_order(key=f"{first.key}2", presentment=2, earlier_payment_ids=[payment.payment_id])
    assert (await stripe.submit(again)).status is PaymentStatus.PENDING
    alter(books, payment.payment_id, status="succeeded")
    later = an_order(key=f"{first.key}3", presentment=3, earlier_payment_ids=[payment.payment_id])
    with pytest.raises(OutcomeUnknown):
        await stripe.submit(later)


@pytest.mark.parametrize("why", ["its account is retired", "its party is not cleared", "its investment wants none"])
async def test_what_waits_for_its_payer_and_is_not_wanted_any_more_is_cancelled_at_stripe(
    service, url, books, why
) -> None:
    started = await start(service)
    match why:
        case "its account is retired":
            request = bank_pb.DeleteBankAccountRequest(bank_account_id=started.bank_account_id)
            await service.ask(ADMIN, "DeleteBankAccount", request)
        case "its party is not cleared":
            service.compliance.uncleared[started.party_id] = "OFAC is missing"
        case _:
            service.distributions.investments[started.investment_id].status = Investment.CANCELLED
    await service.work(hurried=True)
    assert read(books, started.provider_reference)["status"] == "canceled"
    assert (await service.get(started.transaction_id)).status == T.CANCELLED


async def test_what_waits_for_its_payer_goes_on_while_its_escrow_account_is_frozen_or_nobody_answers(
    service, url, books
) -> None:
    started = await start(service)
    service.escrow.accounts[started.escrow_account_id].status = EscrowAccount.FROZEN
    await service.work(hurried=True)
    with service.wire.cut(service.compliance):
        await service.work(hurried=True)
    assert read(books, started.provider_reference)["status"] == "requires_action"
    assert (await service.get(started.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_nothing_is_drawn_from_an_account_that_somebody_altered(service, url, books) -> None:
    started = await start(service)
    async with service.database.begin(ADMIN.org_id) as tx:
        await tx.execute(sa.text("UPDATE bank_accounts SET version = version + 5"))
    await service.work(hurried=True)
    assert read(books, started.provider_reference)["status"] == "canceled"


async def test_a_question_that_stripe_refuses_says_nothing_of_the_order(stripe) -> None:
    with pytest.raises(OutcomeUnknown):
        await stripe.list_payments("' OR status:'succeeded")
