"""Contributions by card: the payer enters it on a page of Stripe's, so that no number of a card ever comes here.

One attempt is one page (a Checkout Session), and what Stripe calls our payment is that page. A card that is declined
there may be followed by another, until the page expires after a day. Each page is a customer's of its own, by whom it
is found under our id; it and what is paid there bear a proof over the order and that customer. Source:
docs.stripe.com/api/checkout/sessions, docs.stripe.com/payments/checkout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from services.chassis.process.telemetry import log
from services.transactions.domain.payments import Payment
from services.transactions.providers.protocols import (
    Declined,
    NotAsOrdered,
    PaymentOrder,
    check_as_ordered,
)
from services.transactions.providers.stripe.card_states import find_intent, read_card_payment, spell_proved
from services.transactions.providers.stripe.client import (
    LIST_LIMIT,
    NotThere,
    Refused,
    StripeApi,
    build_declined,
    list_disputes,
    read_list,
    read_whole_list,
)
from services.transactions.providers.stripe.fees import EXPANDED
from services.transactions.providers.stripe.keys import name_key
from services.transactions.providers.stripe.refunds import CardRefunds, is_refund_id
from services.transactions.providers.stripe.states import pays_others
from services.transactions.vault import Vault

CARD: Final = "CARD"
_METHODS: Final = ["card"]
_SESSION_ID = re.compile(r"cs_[A-Za-z0-9_]{1,200}")
PAGE_EXPANDED: Final = [
    *(f"payment_intent.latest_charge.{each}" for each in EXPANDED),
    "payment_intent.payment_method",
]


def is_session_id(payment_id: str) -> bool:
    return _SESSION_ID.fullmatch(payment_id) is not None


def is_of_card(payment_id: str) -> bool:
    """Of a page, or of a refund of what was paid there."""
    return is_session_id(payment_id) or is_refund_id(payment_id)


def is_by_card(intent: Mapping[str, Any]) -> bool:
    return "card" in (intent.get("payment_method_types") or ())


class CardPayments:
    """
    Args:
        vault: Whose codes over what was ordered nobody else makes.
        return_url: Where a payer is taken once the card is entered.
    """

    def __init__(self, api: StripeApi, vault: Vault, return_url: str) -> None:
        self._api = api
        self._refunds = CardRefunds(api, vault)
        self._vault = vault
        self._return_url = return_url

    async def submit(self, order: PaymentOrder) -> Payment:
        """Makes the page; or gives back what was paid on one. Raises: Declined, OutcomeUnknown."""
        if not order.is_inbound and not order.refunded_payment_id:
            message = "Stripe pays nothing to a card but what came from it."
            raise Declined("PAYMENT_METHOD_NOT_SUPPORTED", message, retryable=False)
        if not order.is_inbound:
            return await self._refunds.submit(order, await self._require_paid(order.refunded_payment_id))
        customer: Any = {"metadata": {"reference": order.reference, "party_id": order.party_id}}
        key: Any = name_key(self._vault, f"{order.key}:customer")
        made = await self._api.call(self._api.v1.customers.create_async(customer, key))
        amount = order.amount.amount_minor, order.amount.currency
        words = {
            "reference": order.reference,
            "presentment": str(order.presentment),
            "proof": self._vault.prove(spell_proved(order.reference, order.presentment, *amount, made["id"])),
        }
        wanted = {
            "currency": order.amount.currency.lower(),
            "unit_amount": order.amount.amount_minor,
            "product_data": {"name": order.description},
        }
        params: Any = {
            "mode": "payment",
            "payment_method_types": _METHODS,
            "customer": made["id"],
            "line_items": [{"quantity": 1, "price_data": wanted}],
            "adaptive_pricing": {"enabled": False},  # else the payer may be charged in another currency
            "success_url": self._return_url,
            "metadata": words,
            "payment_intent_data": {"description": order.description, "metadata": words},
            "expand": PAGE_EXPANDED,
        }
        key = name_key(self._vault, order.key)
        try:
            session = await self._api.call(self._api.v1.checkout.sessions.create_async(params, key))
        except Refused as refusal:
            raise build_declined(refusal.error) from None
        payment = read_card_payment(session, [], self._is_ours)
        check_as_ordered(payment, order)
        return payment

    async def list_payments(self, reference: str, refunded_payment_id: str) -> list[Payment]:
        """Of each page that was made under our reference, or each refund of what was paid on one, the newest first."""
        if refunded_payment_id:
            return await self._refunds.list_payments(reference, await self._require_paid(refunded_payment_id))
        query: Any = {"query": f"metadata['reference']:'{reference}'", "limit": LIST_LIMIT}
        customers = read_whole_list(await self._api.call(self._api.v1.customers.search_async(query)))
        found: list[dict[str, Any]] = []
        for customer in customers:
            theirs: Any = {"customer": customer["id"], "limit": LIST_LIMIT, "expand": _expand_each()}
            found += read_whole_list(await self._api.call(self._api.v1.checkout.sessions.list_async(theirs)))
        newest_first = sorted(found, key=lambda each: -int(each.get("created") or 0))
        payments = [read_card_payment(each, [], self._is_ours) for each in newest_first]
        return [each for each in payments if each.reference == reference]

    async def find(self, session_id: str) -> Payment | None:
        """How it stands with a page, and with what was paid there; or with a refund."""
        if is_refund_id(session_id):
            return await self._refunds.find(session_id)
        session = await self._find_session(session_id)
        return None if session is None else await self._read(session)

    async def _find_session(self, session_id: str) -> dict[str, Any] | None:
        sessions: Any = self._api.v1.checkout.sessions
        try:
            return await self._api.call(sessions.retrieve_async(session_id, {"expand": PAGE_EXPANDED}))
        except NotThere:
            return None

    async def _require_paid(self, session_id: str) -> str:
        """The id of what was paid on a page of ours, as it was ordered. Raises: NotAsOrdered, OutcomeUnknown."""
        session = await self._find_session(session_id) if is_session_id(session_id) else None
        if session is None or not find_intent(session) or not self._is_ours(session):
            raise NotAsOrdered("what is to be given back is not there as it was ordered", session_id)
        return str(find_intent(session)["id"])

    async def find_by_intent(self, intent_id: str) -> Payment | None:
        """What was paid on a page of ours, by the id of its PaymentIntent; None where it was paid on none."""
        asked: Any = {"payment_intent": intent_id, "limit": 1, "expand": _expand_each()}
        found = read_list(await self._api.call(self._api.v1.checkout.sessions.list_async(asked)))
        return await self._read(found[0]) if found else None

    async def expire(self, session_id: str) -> None:
        """Nobody pays on that page any more. Where somebody has, or it is over, it stays as it is."""
        try:
            await self._api.call(self._api.v1.checkout.sessions.expire_async(session_id))
        except Refused as refusal:
            log.warning("payment_not_cancelled", payment_id=session_id, cause=str(refusal))

    async def _read(self, session: Mapping[str, Any]) -> Payment:
        charge = find_intent(session).get("latest_charge") or {}
        disputes = await list_disputes(self._api, charge)
        ours_minor = 0
        if refunded_minor := charge.get("amount_refunded"):
            ours_minor = self._refunds.sum_ours(await self._refunds.list_refunds(find_intent(session)["id"]))
            if refunded_minor > ours_minor:  # one of ours may have failed since the charge was read
                session = await self._find_session(session["id"]) or session
        return read_card_payment(session, disputes, self._is_ours, given_back_minor=ours_minor)

    def _is_ours(self, session: Mapping[str, Any]) -> bool:
        """Whether it is as we ordered it, and so is what was paid there, for us alone."""
        try:
            metadata, amount = session["metadata"], (session["amount_total"], session["currency"].upper())
            intent = find_intent(session)
            if intent:
                paid = intent["amount"], intent["currency"].upper()
                if pays_others(intent) or paid != amount:
                    return False
                if intent["metadata"] != metadata or intent["customer"] != session["customer"]:
                    return False
            proved = spell_proved(metadata["reference"], metadata["presentment"], *amount, session["customer"])
            return session["mode"] == "payment" and self._vault.is_proof(str(metadata["proof"]), proved)
        except (KeyError, TypeError, AttributeError):
            return False


def _expand_each() -> list[str]:
    return [f"data.{each}" for each in PAGE_EXPANDED]
