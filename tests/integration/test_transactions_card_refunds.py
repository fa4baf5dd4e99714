"""Refunds of contributions by card, over the stand-in for Stripe: back to the card, in parts, in vain, and told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from realco.transactions.v1 import payouts_pb2

from services.chassis.values.money import Money
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.types import REFUND_ELSEWHERE, REFUND_NOT_FINAL
from services.transactions.providers.protocols import Declined, NotAsOrdered
from services.transactions.providers.stripe.refunds import CardRefunds
from tests.integration.stripe_desk import (
    API_KEY,
    T,
    alter,
    answer_dispute,
    becomes,
    have_disputed,
    jump,
    pay,
    pay_by_card,
    post,
    read,
)
from tests.support.exceptions import count_found, list_exceptions
from tests.support.payment_orders import an_order
from tests.support.transactions import ADMIN, TransactionsHarness, usd

pytest_plugins = ("tests.integration.stripe_desk",)


@pytest.fixture
def service(stripe_service: TransactionsHarness) -> TransactionsHarness:
    return stripe_service


async def contribute(service, url, card: str = "pm_card_visa", **more):
    """A contribution by card that is COMPLETED; escrow has its money."""
    paid = await pay_by_card(service, url, card, **more)
    await jump(service, paid, "return_risk_end_time")
    service.owe(paid.party_id)
    return await service.get(paid.transaction_id)


async def give_back(service, paid, minor: int = 100_00, *, approved: bool = True, **more):
    """The refund, or the result that says why there is none."""
    refund = {"type": T.REFUND, "investment_id": paid.investment_id, "amount": usd(minor)}
    return await service.payout_to(None, paid.party_id, approved=approved, **refund | more)


async def list_refunds(url, books, paid):
    headers = {"Authorization": f"Bearer {API_KEY}"}
    intent = read(books, paid.provider_reference)["payment_intent"]
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        return (await client.get("/v1/refunds", params={"payment_intent": intent})).json()["data"]


async def test_a_refund_goes_back_to_the_card_once_and_the_contribution_stays_as_it_is(service, url, books) -> None:
    paid, before = await contribute(service, url), count_found(ExceptionKind.PAYMENT_NOT_OURS)
    made = await give_back(service, paid, 40_00)
    assert (made.payment_method, made.provider, made.bank_account_id) == (T.CARD, "stripe", "")
    assert (made.refunded_transaction_id, made.card.last4) == (paid.transaction_id, "4242")
    await service.work(hurried=True)
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.finality) == (T.COMPLETED, T.PROVISIONAL), "it may fail for a month"
    [refund] = await list_refunds(url, books, paid)
    assert (refund["amount"], refund["id"]) == (40_00, seen.provider_reference)
    await jump(service, paid, "final_time")
    ends = [await service.get(each) for each in (paid.transaction_id, made.transaction_id)]
    assert {(each.status, each.finality) for each in ends} == {(T.COMPLETED, T.FINAL)}
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) == before


async def test_what_several_cards_paid_goes_back_to_each_in_parts_and_no_more_than_came(service, url) -> None:
    first = await contribute(service, url, amount=usd(60_00))
    more = {"amount": usd(40_00), "investment_id": first.investment_id}
    last = await contribute(service, url, "pm_card_mastercard", **more)
    whole = await give_back(service, first)
    assert (whole.failure.code, whole.failure.metadata["refundable_minor"]) == ("REFUND_IN_PARTS", "4000")
    assert await list_exceptions(service) == [], "nothing stands still: it only goes in parts"
    parts = [await give_back(service, first, minor) for minor in (40_00, 60_00)]
    assert [each.refunded_transaction_id for each in parts] == [last.transaction_id, first.transaction_id]
    await service.work(hurried=True)
    assert {(await service.get(each.transaction_id)).status for each in parts} == {T.COMPLETED}
    assert (await give_back(service, first, 1)).failure.code == "NO_PAYOUT_BANK_ACCOUNT"


@pytest.mark.parametrize("where", ["the card, which two persons did not decide on", "a bank account that is named"])
async def test_a_refund_of_a_card_payment_waits_for_a_second_person(service, url, where) -> None:
    paid = await contribute(service, url)
    if where.startswith("the card"):
        made, reason = await give_back(service, paid, approved=False), REFUND_NOT_FINAL
    else:
        account = await service.confirm(await service.bank_account(paid.party_id, "77"))
        refund = {"type": T.REFUND, "investment_id": paid.investment_id, "amount": usd(100_00)}
        made = await service.payout_to(account.bank_account_id, paid.party_id, approved=True, **refund)
        reason = REFUND_ELSEWHERE
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.PENDING_APPROVAL
    waiting = await service.waiting(made.transaction_id)
    assert reason in str(waiting.explanations)
    to_card = {each.rule: each.statement for each in waiting.explanations if each.rule == "REFUND_TO_CARD"}
    if made.payment_method == T.CARD:
        assert waiting.summary.endswith(f"paid to {paid.party_id}, card visa …4242")
        assert to_card["REFUND_TO_CARD"].endswith(f"the card visa …4242 that paid {paid.transaction_id}.")
        assert json.loads(waiting.content)["resource"]["transaction"]["card"] == {"brand": "visa", "last4": "4242"}
    else:
        assert (waiting.summary.endswith("account …1177"), to_card) == (True, {})


async def dispute_becomes(service, paid, status):
    for _ in range(100):
        service.clock.advance(timedelta(hours=6))
        await service.work(hurried=True)
        seen = await service.get(paid.transaction_id)
        if seen.dispute_status == status:
            return seen
        await asyncio.sleep(0.05)
    raise AssertionError(f"the dispute is {seen.dispute_status}")


async def test_of_a_dispute_that_was_won_the_dossier_and_the_failure_say_that_a_bank_account_is_to_be_named(
    service, url, books
) -> None:
    paid = await contribute(service, url)
    await have_disputed(url, books, paid.provider_reference)
    disputed = await dispute_becomes(service, paid, T.NEEDS_RESPONSE)
    await answer_dispute(url, disputed.dispute_reference, "winning_evidence")
    await dispute_becomes(service, paid, T.WON)
    said = f"A dispute of {paid.transaction_id} was won: the provider may refuse to give that back there. Name a bank"
    [told, *_] = (await preview_refund(service, paid)).explanations
    made = await give_back(service, paid)
    await service.work(hurried=True)
    waiting = await service.waiting(made.transaction_id)
    [of_it] = [each for each in waiting.explanations if each.rule == "REFUND_TO_CARD"]
    assert [said in each.statement for each in (told, of_it)] == [True, True]
    await service.grant(waiting)
    await service.work(hurried=True)
    failed = await service.get(made.transaction_id)
    assert (failed.status, failed.failure.code) == (T.FAILED, "DECLINED_BY_PROVIDER")
    assert dict(failed.failure.metadata) == {"provider_code": "charge_disputed"}
    assert failed.failure.message.endswith("name a bank account of the party.")


async def test_what_is_disputed_is_not_given_back_besides(service, url, books) -> None:
    paid = await contribute(service, url)
    await have_disputed(url, books, paid.provider_reference)
    await dispute_becomes(service, paid, T.NEEDS_RESPONSE)
    refused = await give_back(service, paid)
    assert (refused.failure.code, refused.failure.metadata) == (
        "PAYMENT_DISPUTED",
        {"transaction_id": paid.transaction_id},
    )


async def wait_for(service, made, status):
    for _ in range(100):
        await service.work(hurried=True)
        seen = await service.get(made.transaction_id)
        if seen.status == status:
            return seen
        await asyncio.sleep(0.05)
    raise AssertionError(f"it is {seen.status}")


async def test_a_refund_that_fails_has_come_back_and_is_sent_again(service, url, books) -> None:
    paid = await contribute(service, url, "pm_card_refundFail")
    made = await give_back(service, paid)
    back = await wait_for(service, made, T.RETURNED)
    assert (back.failure.code, back.failure.retryable) == ("RETURNED_BY_BANK", False)
    assert "expired or canceled card" in back.failure.message
    assert dict(back.failure.metadata) == {"network_code": "expired_or_canceled_card"}
    assert (await service.get(paid.transaction_id)).status == T.COMPLETED
    again = await give_back(service, paid)
    assert again.refunded_transaction_id == paid.transaction_id
    await wait_for(service, again, T.PENDING_APPROVAL)
    await service.grant(await service.waiting(again.transaction_id))
    await wait_for(service, again, T.RETURNED)
    assert len(await list_refunds(url, books, paid)) == 2


async def test_what_failed_while_a_payment_is_read_is_not_gone_and_what_was_refunded_elsewhere_is(
    service, url, books, stripe, monkeypatch
) -> None:
    paid = await contribute(service, url, "pm_card_refundFail")
    await wait_for(service, await give_back(service, paid), T.RETURNED)
    charge = read(books, read(books, paid.provider_reference)["payment_intent"])["latest_charge"]
    list_refunds_now = CardRefunds.list_refunds

    async def list_late(refunds, intent_id):
        alter(books, charge, amount_refunded=0)
        return await list_refunds_now(refunds, intent_id)

    alter(books, charge, amount_refunded=100_00)
    assert (await stripe.get_payment(paid.provider_reference)).gone_minor == 100_00
    monkeypatch.setattr(CardRefunds, "list_refunds", list_late)
    assert (await stripe.get_payment(paid.provider_reference)).gone_minor == 0


async def test_a_refund_that_takes_a_while_is_under_way_until_it_is_done(service, url) -> None:
    made = await give_back(service, await contribute(service, url, "pm_card_pendingRefund"))
    await wait_for(service, made, T.COMPLETED)
    assert "PENDING_SETTLEMENT" in await service.path(made.transaction_id)


async def test_what_was_refunded_at_stripe_before_is_not_given_back_twice(service, url, books) -> None:
    paid, before = await contribute(service, url), count_found(ExceptionKind.PAYMENT_NOT_OURS)
    await post(url, "refunds", payment_intent=read(books, paid.provider_reference)["payment_intent"])
    made = await give_back(service, paid)
    await service.work(hurried=True)
    failed = await service.get(made.transaction_id)
    assert (failed.status, failed.failure.metadata) == (T.FAILED, {"provider_code": "charge_already_refunded"})
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) > before


async def preview_refund(service, paid):
    part = payouts_pb2.GetRefundPreviewRequest.Part(investment_id=paid.investment_id, party_id=paid.party_id)
    return await service.ask(ADMIN, "GetRefundPreview", payouts_pb2.GetRefundPreviewRequest(parts=[part]))


async def test_the_preview_names_each_card_that_something_goes_back_to_and_no_account(service, url) -> None:
    first = await contribute(service, url, amount=usd(60_00))
    more = {"amount": usd(40_00), "investment_id": first.investment_id}
    last = await contribute(service, url, "pm_card_mastercard", **more)
    preview = await preview_refund(service, first)
    assert (list(preview.bank_accounts), list(preview.card_party_ids)) == ([], [first.party_id])
    [told, *_] = preview.explanations
    assert told.statement.startswith("100.00 USD came by card and was not given back yet")
    assert [(each.name, each.value) for each in told.operands] == [
        (last.transaction_id, "mastercard …4444, 40.00 USD"),
        (first.transaction_id, "visa …4242, 60.00 USD"),
    ]
    await give_back(service, first, 40_00)
    await give_back(service, first, 10_00)
    [told, *_] = (await preview_refund(service, first)).explanations
    assert told.statement.endswith(f"it goes back to the card visa …4242 that paid {first.transaction_id}.")
    assert [each.value for each in told.operands] == ["visa …4242, 50.00 USD"]
    await give_back(service, first, 50_00)
    done = await preview_refund(service, first)
    assert (list(done.card_party_ids), "REFUND_TO_CARD" in str(done.explanations)) == ([], False)


# --- the adapter ---


async def paid_order(stripe, url):
    """A payment by card, and the order that gives 40.00 of it back."""
    made = await stripe.submit(an_order("", payment_method="CARD", bank_account_id=""))
    pay(url, made.payment_id)
    await becomes(stripe, made.payment_id, PaymentStatus.SETTLED)
    refund = an_order("", payment_method="CARD", bank_account_id="", is_inbound=False, amount=Money(40_00, "USD"))
    return made, replace(refund, refunded_payment_id=made.payment_id)


async def test_a_refund_is_looked_for_before_it_is_made_whatever_its_key_is(stripe, url) -> None:
    made, order = await paid_order(stripe, url)
    refund = await stripe.submit(order)
    assert (refund.status, refund.is_inbound, refund.amount) == (PaymentStatus.SETTLED, False, order.amount)
    assert await stripe.submit(replace(order, key="of another day")) == refund, "Stripe forgets keys after a day"
    assert await stripe.list_payments(order.reference, made.payment_id) == [refund]
    assert await stripe.get_payment(refund.payment_id) == refund
    assert (await stripe.get_payment(made.payment_id)).gone_minor == 0


@pytest.mark.parametrize("of", ["another's", "a copied proof", "a proof of another amount"])
async def test_a_refund_that_the_key_alone_made_is_none_of_ours_and_its_money_is_gone(stripe, url, books, of) -> None:
    made, order = await paid_order(stripe, url)
    ours = await stripe.submit(order)
    intent = read(books, made.payment_id)["payment_intent"]
    form = {"payment_intent": intent, "amount": "4000" if of == "a copied proof" else "3000"}
    if of != "another's":
        words = read(books, ours.payment_id)["metadata"]
        form |= {f"metadata[{name}]": text for name, text in words.items()}
    theirs = await post(url, "refunds", **form)
    assert (await stripe.get_payment(made.payment_id)).gone_minor == int(form["amount"])
    if of != "a copied proof":
        assert (await stripe.get_payment(theirs["id"])).reference == ""


async def test_nothing_is_given_back_of_a_page_that_somebody_changed(stripe, url, books) -> None:
    made, order = await paid_order(stripe, url)
    alter(books, made.payment_id, metadata={})
    for asked in (stripe.submit(order), stripe.list_payments(order.reference, made.payment_id)):
        with pytest.raises(NotAsOrdered):
            await asked


async def test_more_than_is_left_is_declined(stripe, url) -> None:
    _, order = await paid_order(stripe, url)
    with pytest.raises(Declined):
        await stripe.submit(replace(order, amount=Money(100_01, "USD")))
