"""Whatever a provider answers, or somebody in its place: it is a payment, or its outcome is not known, and no fault of
ours. Of what comes by webhook it is proved, or refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from joserfc import jwt

from services.transactions.domain.payments import Payment, PaymentStatus, find_difference
from services.transactions.domain.refusals import WebhookSignatureInvalid
from services.transactions.providers.plaid.webhooks import PlaidWebhooks
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.providers.stripe.cards import PAGE_EXPANDED
from services.transactions.providers.stripe.client import read_whole_list
from services.transactions.providers.stripe.payments import INTENT_EXPANDED, StripePayments
from tests.e2e.providers import PLAID_KEY_ID, Plaid, event
from tests.integration.stripe_desk import API_KEY, RETURN_URL, VAULT, alter, becomes, confirm, pay, read
from tests.support.payment_orders import an_order
from tests.support.strangers import Stranger, answering

pytest_plugins = ("tests.integration.stripe_desk",)

ODD: list[Any] = [None, 7, 2**60, "x", "\ud800", [], {}]
BODY = event("plaid", "item-1")


def list_paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where each value of a document stands, the document itself first."""
    yield path
    if isinstance(value, dict):
        for name, each in value.items():
            yield from list_paths(each, (*path, name))
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from list_paths(each, (*path, number))


def replace_at(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    copy: Any = document.copy()
    copy[path[0]] = replace_at(copy[path[0]], path[1:], value)
    return copy


async def ask(adapter: StripePayments, stranger: Stranger, answer: Any, payment_id: str) -> None:
    """It is a payment or is not known; all else is raised."""
    stranger.body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    try:
        found = await adapter.get_payment(payment_id)
    except OutcomeUnknown:
        return
    assert found is None or isinstance(found, Payment)


async def fetch(url: str, path: str, *expand: str) -> Any:
    """What the stand-in shows."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        return (await client.get(f"/v1/{path}", params={"expand[]": list(expand)})).raise_for_status().json()


async def pay_on_page(stripe: StripePayments, url: str) -> Payment:
    waiting = await stripe.submit(an_order("", payment_method="CARD", bank_account_id=""))
    pay(url, waiting.payment_id)
    return await becomes(stripe, waiting.payment_id, PaymentStatus.SETTLED)


async def pay_by_debit(stripe: StripePayments, url: str) -> Payment:
    waiting = await stripe.submit(an_order())
    confirm(url, waiting.payment_id)
    return await becomes(stripe, waiting.payment_id, PaymentStatus.SETTLED)


WAYS = pytest.mark.parametrize("pay_so", [pay_on_page, pay_by_debit], ids=["by card", "by debit"])
_SHOWN = {pay_on_page: ("checkout/sessions", PAGE_EXPANDED), pay_by_debit: ("payment_intents", INTENT_EXPANDED)}


@WAYS
async def test_one_odd_value_anywhere_in_an_answer_of_stripe_is_no_fault_of_ours(stripe, url, pay_so) -> None:
    paid = await pay_so(stripe, url)
    path, expand = _SHOWN[pay_so]
    document = await fetch(url, f"{path}/{paid.payment_id}", *expand)
    charges = await fetch(url, f"charges?payment_intent={paid.payment_id}")
    with answering(200, json.dumps(document).encode()) as stranger:
        stranger.bodies["/v1/charges"] = json.dumps(charges).encode()
        adapter = StripePayments(API_KEY, stranger.url, VAULT, return_url=RETURN_URL)
        assert await adapter.get_payment(paid.payment_id) == paid, "as it is, it is the payment"
        for place in list_paths(document):
            for odd in ODD:
                await ask(adapter, stranger, replace_at(document, place, odd), paid.payment_id)
        stranger.body = json.dumps(document).encode()
        for place in list_paths(charges):
            for odd in ODD:
                stranger.bodies["/v1/charges"] = json.dumps(replace_at(charges, place, odd)).encode()
                await ask(adapter, stranger, document, paid.payment_id)
        await adapter.close()
    assert len(stranger.asked) > 100


@pytest.mark.parametrize("status", [200, 301, 400, 402, 404, 500])
async def test_what_is_no_answer_of_stripe_is_not_known(status: int) -> None:
    errors = [b'{"error": "x"}', b'{"error": null}', b'{"error": []}']
    with answering(status, b"") as stranger:
        adapter = StripePayments(API_KEY, stranger.url, VAULT, return_url=RETURN_URL)
        deep = b'{"id":' * 700 + b"1" + b"}" * 700
        for body in (b"\xff", b"", b"<html>", b"[]", b"null", b'"x"', b"[" * 9000, deep, *errors):
            for payment_id in ("cs_test_1", "pi_1", "re_1"):
                await ask(adapter, stranger, body, payment_id)
            with pytest.raises(OutcomeUnknown):
                await adapter.submit(an_order("", payment_method="CARD", bank_account_id=""))
            with pytest.raises(OutcomeUnknown):
                await adapter.list_payments("txn_1")
        await adapter.close()


@pytest.mark.parametrize("has_more", [True, 1, "x", {}])
def test_a_part_of_a_list_of_stripe_says_nothing_for_certain(has_more: object) -> None:
    """What is left out may be the dispute, or the refund, by which the money is gone."""
    assert read_whole_list({"data": [], "has_more": False}) == read_whole_list({"data": []}) == []
    with pytest.raises(OutcomeUnknown, match="not the whole list"):
        read_whole_list({"data": [], "has_more": has_more})


@WAYS
@pytest.mark.parametrize(
    ("of_charge", "changes"),
    [
        (False, {"amount_received": 1}),
        (True, {"amount": 1}),
        (True, {"amount_captured": 1}),
        (False, {"amount_received": 10**7}),
        (True, {"amount": 10**7}),
        (True, {"currency": "eur"}),
    ],
    ids=lambda given: str(given),
)
async def test_what_stripe_received_is_what_was_ordered_or_a_person_looks(
    stripe, url, books, pay_so, of_charge, changes
) -> None:
    paid = await pay_so(stripe, url)
    intent_id = read(books, paid.payment_id).get("payment_intent") or paid.payment_id
    alter(books, read(books, intent_id)["latest_charge"] if of_charge else intent_id, **changes)
    seen = await stripe.get_payment(paid.payment_id)
    same = {"reference": paid.reference, "amount": paid.amount, "is_inbound": True, "presentment": 1}
    assert find_difference(seen, **same) == "amount"


@WAYS
@pytest.mark.parametrize("name", ["transfer_data", "on_behalf_of", "application", "application_fee_amount"])
async def test_a_charge_that_pays_others_at_stripe_is_none_of_ours(stripe, url, books, pay_so, name) -> None:
    paid = await pay_so(stripe, url)
    intent_id = read(books, paid.payment_id).get("payment_intent") or paid.payment_id
    alter(books, read(books, intent_id)["latest_charge"], **{name: 4000})
    seen = await stripe.get_payment(paid.payment_id)
    assert (seen.reference, seen.is_misused) == ("", True)


# --- proofs of Plaid ---


@pytest.fixture(scope="module")
def plaid() -> Iterator[Plaid]:
    with Plaid().serving() as serving:
        yield serving


async def refuses(plaid: Plaid, proof: str) -> None:
    with pytest.raises(WebhookSignatureInvalid):
        await PlaidWebhooks(plaid.url, "client", "secret").read_webhook(BODY, proof)


@pytest.mark.parametrize("key_id", ["\ud800", "", "a b", "x" * 129, 7, None, [PLAID_KEY_ID], True], ids=repr)
async def test_a_proof_by_a_key_that_plaid_cannot_have_is_refused(plaid: Plaid, key_id: object) -> None:
    head = json.dumps({"alg": "ES256", "kid": key_id}).encode()
    rest = plaid.verification(BODY).split(".")[1:]
    await refuses(plaid, ".".join([base64.urlsafe_b64encode(head).rstrip(b"=").decode(), *rest]))


@pytest.mark.parametrize("issued_at", ["1796049082.5", "1796049082e0", 10**400, True, None, [], {}, -1, 2**60])
async def test_a_proof_of_no_time_is_refused_whoever_signed_it(plaid: Plaid, issued_at: object) -> None:
    claims = {"iat": issued_at, "request_body_sha256": hashlib.sha256(BODY).hexdigest()}
    head = {"alg": "ES256", "typ": "JWT", "kid": PLAID_KEY_ID}
    await refuses(plaid, jwt.encode(head, claims, plaid.key, algorithms=["ES256"]))
