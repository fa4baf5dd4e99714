"""Bank accounts that are verified at Stripe, asked for with its own SDK of the stand-in, a process of its own."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.verifications import VerificationStatus
from services.transactions.providers.protocols import Declined, OutcomeUnknown, VerificationOrder, ask_provider
from services.transactions.providers.stripe.payments import StripePayments
from tests.integration.stripe_desk import API_KEY, GOOD, ROUTING_NUMBER, VAULT, alter, becomes, confirm, post, read
from tests.integration.test_transactions_odd_answers import ODD, fetch, list_paths, replace_at
from tests.support.payment_orders import an_order
from tests.support.stand_ins import find_free_port
from tests.support.strangers import answering
from tests.support.vault import build_vault

pytest_plugins = ("tests.integration.stripe_desk",)
S = VerificationStatus


def a_verification(account_number: str = GOOD, **more: Any) -> VerificationOrder:
    reference = new_id("bav")
    order = VerificationOrder(
        key=f"verify:{reference}",
        reference=reference,
        party_id="pty_1",
        routing_number=ROUTING_NUMBER,
        account_number=account_number,
        account_type="CHECKING",
        holder_type="PERSON",
        account_holder_name="Ada Investor",
    )
    return replace(order, **more)


def a_debit(verification_id: str, account_number: str = GOOD, **more: Any) -> Any:
    return an_order(account_number, routing_number=ROUTING_NUMBER, verification_id=verification_id, **more)


async def verify(stripe: StripePayments, url: str, number: str = GOOD) -> str:
    """Stripe's id of an account that its holder has verified."""
    theirs = await stripe.setups.begin(a_verification(number))
    confirm(url, theirs.provider_reference)
    return theirs.provider_reference


async def test_an_account_is_verified_on_stripes_page_and_drawn_from_without_a_code(stripe, url, books) -> None:
    order = a_verification()
    waiting = await stripe.setups.begin(order)
    assert (waiting.status, waiting.reference) == (S.WAITING, order.reference)
    assert waiting.action_url == f"{url}/microdeposits/{waiting.provider_reference}"
    assert await stripe.setups.begin(order) == waiting, "the same key is the same verification"
    confirm(url, waiting.provider_reference)
    theirs = await stripe.setups.get_verification(waiting.provider_reference)
    assert theirs is not None
    assert (theirs.status, theirs.account, theirs.action_url) == (S.VERIFIED, (ROUTING_NUMBER, "6789"), "")
    payment = await stripe.submit(a_debit(waiting.provider_reference))
    assert payment.payer_action_url == ""
    setup = read(books, waiting.provider_reference)
    used = read(books, payment.payment_id)
    assert (used["payment_method"], used["customer"]) == (setup["payment_method"], setup["customer"])
    await becomes(stripe, payment.payment_id, PaymentStatus.SETTLED)


async def test_what_is_verified_counts_for_its_number_alone_and_as_long_as_its_mandate(stripe, url, books) -> None:
    setup_id = await verify(stripe, url)
    other = await stripe.submit(a_debit(setup_id, "000123456780"))
    assert other.payer_action_url != "", "another number is another account"
    mandate_id = read(books, setup_id)["mandate"]
    await post(url, f"mandates/{mandate_id}/end")
    ended = await stripe.setups.get_verification(mandate_id)
    assert ended is not None
    assert (ended.provider_reference, ended.status, ended.failure.code) == (setup_id, S.FAILED, "MANDATE_ENDED")
    again = await stripe.submit(a_debit(setup_id))
    assert again.payer_action_url != "", "it goes as without"


async def test_a_method_that_was_taken_off_its_customer_is_not_used(stripe, url, books) -> None:
    setup_id = await verify(stripe, url)
    alter(books, read(books, setup_id)["payment_method"], customer=None)
    assert (await stripe.submit(a_debit(setup_id))).payer_action_url != ""


async def test_a_debit_that_its_holder_disowns_ends_the_mandate(stripe, url, books) -> None:
    setup_id = await verify(stripe, url, "000555555559")
    payment = await stripe.submit(a_debit(setup_id, "000555555559"))
    await becomes(stripe, payment.payment_id, PaymentStatus.RETURNED)
    assert (await stripe.setups.get_verification(setup_id)).failure.code == "MANDATE_ENDED"


@pytest.mark.parametrize("holder", [("COMPANY", "company"), ("PERSON", "individual")])
async def test_stripe_is_told_whose_account_it_is(stripe, books, holder) -> None:
    found = await stripe.setups.begin(a_verification(holder_type=holder[0], account_type="SAVINGS"))
    method = read(books, read(books, found.provider_reference)["payment_method"])
    assert method["us_bank_account"]["account_holder_type"] == holder[1]
    assert method["us_bank_account"]["account_type"] == "savings"


async def test_deposits_that_cannot_be_sent_and_ten_wrong_codes_end_it(stripe, url) -> None:
    failed = await stripe.setups.begin(a_verification("000666666661"))
    assert failed.failure.metadata == {"provider_code": "payment_method_microdeposit_failed"}
    waiting = await stripe.setups.begin(a_verification())
    for _ in range(10):
        confirm(url, waiting.provider_reference, "SM0000", says="That is not what was deposited")
    ended = await stripe.setups.get_verification(waiting.provider_reference)
    assert (ended.status, ended.reference) == (S.FAILED, waiting.reference), "it is still known for ours"
    code = "payment_method_microdeposit_verification_attempts_exceeded"
    assert ended.failure.metadata == {"provider_code": code}


@pytest.mark.parametrize("order", [a_verification("12AB"), a_verification(routing_number="110000001")])
async def test_data_that_are_wrong_are_declined(stripe, order) -> None:
    with pytest.raises(Declined) as refusal:
        await stripe.setups.begin(order)
    assert refusal.value.code == "INVALID_PAYMENT_DATA"


async def test_what_was_taken_and_answered_badly_is_found(stripe) -> None:
    order = a_verification("000999999990")  # answered 500, which Stripe says again under the same key
    found = await stripe.setups.begin(order)
    assert (found.status, found.reference) == (S.WAITING, order.reference)
    with pytest.raises(OutcomeUnknown):
        await stripe.setups.begin(a_verification("000999999992"))  # answered with words of another one


async def test_a_key_that_stripe_refuses_and_a_stripe_that_is_away_are_unknown_and_not_failed(url) -> None:
    for key, there in (("sk_test_of_nobody", url), (API_KEY, f"http://127.0.0.1:{find_free_port()}")):
        adapter = StripePayments(key, there, VAULT)
        with pytest.raises(OutcomeUnknown):
            await adapter.setups.begin(a_verification())
        with pytest.raises(OutcomeUnknown):
            await adapter.setups.get_verification("seti_1")
        await adapter.close()


@pytest.mark.parametrize("provider_id", ["seti_none", "mandate_none", "seti_../payment_intents", "mandate_a/b"])
async def test_what_is_not_there_and_what_is_no_id_is_no_verification(stripe, provider_id) -> None:
    assert await stripe.setups.get_verification(provider_id) is None


async def test_what_is_of_another_mode_is_not_believed(stripe, url, books) -> None:
    setup_id = await verify(stripe, url)
    alter(books, setup_id, livemode=True)
    with pytest.raises(OutcomeUnknown):
        await stripe.setups.get_verification(setup_id)
    with pytest.raises(OutcomeUnknown):
        await stripe.submit(a_debit(setup_id))


@pytest.mark.parametrize(
    "changed", ["account", "account and customer", "customer", "reference", "words", "for others", "another way"]
)
async def test_what_whoever_has_the_key_changes_of_a_verification_is_none_of_ours_and_draws_nothing(
    stripe, url, books, changed
) -> None:
    setup_id, theirs = await verify(stripe, url), read(books, await verify(stripe, url))
    metadata, customer = (read(books, setup_id)[name] for name in ("metadata", "customer"))
    changes: dict[str, dict[str, Any]] = {
        "account": {"payment_method": theirs["payment_method"]},
        "account and customer": {"payment_method": theirs["payment_method"], "customer": theirs["customer"]},
        "customer": {"customer": theirs["customer"]},
        "reference": {"metadata": metadata | {"reference": "bav_of_another"}},
        "words": {"metadata": theirs["metadata"]},
        "for others": {"on_behalf_of": "acct_1"},
        "another way": {"payment_method_types": ["us_bank_account", "card"]},
    }
    alter(books, setup_id, **changes[changed])
    if changed == "account":
        alter(books, theirs["payment_method"], customer=customer)
    found = await stripe.setups.get_verification(setup_id)
    assert (found.reference, found.is_misused) == ("", True)
    assert (await stripe.submit(a_debit(setup_id))).payer_action_url != ""


async def test_a_proof_of_another_key_of_the_index_is_none_of_ours(stripe, url) -> None:
    setup_id = await verify(stripe, url)
    other = StripePayments(API_KEY, url, build_vault(index=b"9" * 32))
    assert (await other.setups.get_verification(setup_id)).reference == ""
    await other.close()


async def test_one_odd_value_anywhere_in_an_answer_is_no_fault_of_ours_and_draws_from_nothing_else(stripe, url) -> None:
    setup_id = await verify(stripe, url)
    document = await fetch(url, f"setup_intents/{setup_id}", "payment_method", "mandate")
    listed, given = {"object": "list", "has_more": False}, document["mandate"]
    with answering(200, json.dumps(document).encode()) as stranger:
        stranger.bodies["/v1/mandates"] = json.dumps(given).encode()
        adapter = StripePayments(API_KEY, stranger.url, VAULT)
        theirs = await adapter.setups.get_verification(setup_id)
        usable = await adapter.setups.find_usable(a_debit(setup_id))
        assert (theirs, bool(usable)) == (await stripe.setups.get_verification(setup_id), True)
        for place in list_paths(document):
            for odd in ODD:
                changed = replace_at(document, place, odd)
                stranger.body = json.dumps(changed).encode()
                stranger.bodies["/v1/setup_intents?"] = json.dumps(listed | {"data": [changed]}).encode()
                for provider_id in (setup_id, given["id"]):
                    with suppress(OutcomeUnknown):
                        found = await adapter.setups.get_verification(provider_id)
                        assert found is None or found.reference in ("", theirs.reference)
                with suppress(OutcomeUnknown):
                    drawn = await ask_provider(adapter.setups.find_usable(a_debit(setup_id)), 5)
                    assert drawn in (None, usable)
        await adapter.close()
    assert len(stranger.asked) > 100
