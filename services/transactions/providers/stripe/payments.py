"""Payments by Stripe, with its own client: cards by cards.py, and ACH debits, one PaymentIntent an attempt.

An answer counts only if it is about our payment, with our amount; anything else leaves the outcome unknown. Where
Stripe has not seen the bank account before, its holder confirms it on Stripe's page; later payments from it use what
was confirmed. Whoever holds our key at Stripe can make and change what it has: so each intent bears a proof over what
was ordered and the account that is drawn from, and what does not bear it is none of ours. Source:
docs.stripe.com/payments/ach-direct-debit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from services.chassis.process.telemetry import log
from services.transactions.domain.payments import FormerLife, Payment, PaymentStatus
from services.transactions.providers.protocols import (
    Declined,
    NotAsOrdered,
    PaymentOrder,
    ask_provider,
    check_as_ordered,
)
from services.transactions.providers.stripe.accounts import MANDATE, introduce
from services.transactions.providers.stripe.cards import CARD, CardPayments, is_by_card, is_of_card, is_session_id
from services.transactions.providers.stripe.client import (
    LIST_LIMIT,
    NotThere,
    Refused,
    StripeApi,
    build_declined,
    list_disputes,
    read_whole_list,
)
from services.transactions.providers.stripe.events import StripeEvents
from services.transactions.providers.stripe.fees import EXPANDED
from services.transactions.providers.stripe.keys import name_key
from services.transactions.providers.stripe.setups import AccountSetups
from services.transactions.providers.stripe.states import (
    METHOD,
    find_method,
    has_reached_a_bank,
    is_open,
    pays_others,
    read_payment,
    spell_proved,
)
from services.transactions.providers.stripe.sweeps import StripeSweeps
from services.transactions.vault import Vault

_INTENT_ID = re.compile(r"pi_[A-Za-z0-9]{1,200}")
INTENT_EXPANDED: Final = [*(f"latest_charge.{each}" for each in EXPANDED), "payment_method"]


class StripePayments:
    """
    Args:
        base_url: Of a stand-in; empty for Stripe itself.
        vault: Whose codes over what was ordered nobody else makes.
        return_url: Where a payer is taken once the card is entered.
        timeout_seconds: Of all that is asked for one answer, so that it comes within the lease of who waits for it.
    """

    def __init__(
        self, api_key: str, base_url: str, vault: Vault, *, return_url: str = "", timeout_seconds: float = 6
    ) -> None:
        self._vault = vault
        self._timeout_seconds = timeout_seconds
        self._api = StripeApi(api_key, base_url, timeout_seconds)
        self._cards = CardPayments(self._api, vault, return_url)
        self.setups = AccountSetups(self._api, vault, timeout_seconds)
        self.events = StripeEvents(self._api, timeout_seconds=timeout_seconds)
        self.sweeps = StripeSweeps(self._api, timeout_seconds=timeout_seconds)

    async def close(self) -> None:
        await self._api.close()

    async def submit(self, order: PaymentOrder) -> Payment:
        return await ask_provider(self._submit(order), self._timeout_seconds)

    async def list_payments(
        self, reference: str, refunded_payment_id: str = "", former_life: FormerLife | None = None
    ) -> list[Payment]:
        """Those that reached a bank, or may: what was refused when it was ordered is none.

        Stripe finds a payment a minute after it was made; until then the same key answers with it.
        """
        return await ask_provider(self._list_payments(reference, refunded_payment_id), self._timeout_seconds)

    async def get_payment(self, payment_id: str) -> Payment | None:
        return await ask_provider(self._get_payment(payment_id), self._timeout_seconds)

    async def cancel_payment(self, payment_id: str) -> None:
        """What no bank has seen yet is not drawn any more. What cannot be cancelled stays as it is.

        Raises: OutcomeUnknown: Stripe does not say.
        """
        await ask_provider(self._cancel_payment(payment_id), self._timeout_seconds)

    async def _submit(self, order: PaymentOrder) -> Payment:
        if order.payment_method == CARD:
            return await self._cards.submit(order)
        if not order.is_inbound:
            raise Declined("PAYMENT_METHOD_NOT_SUPPORTED", "Stripe pays nothing out here.", retryable=False)
        for payment_id in order.earlier_payment_ids:
            await self._end_earlier(payment_id)
        used = await self._find_known(order) or await self._introduce(order)
        amount = order.amount.amount_minor, order.amount.currency
        proved = spell_proved(order.reference, order.presentment, *amount, used["payment_method"])
        params: Any = {
            "amount": order.amount.amount_minor,
            "currency": order.amount.currency.lower(),
            "confirm": True,
            "payment_method_types": [METHOD],
            "description": order.description,
            "metadata": {
                "reference": order.reference,
                "presentment": str(order.presentment),
                "proof": self._vault.prove(proved),
            },
            "expand": INTENT_EXPANDED,
            **used,
        }
        try:
            # The same key whatever is used: another try with another account is refused, and looked up.
            intent = await self._api.call(self._api.v1.payment_intents.create_async(params, self._under(order.key)))
        except Refused as refusal:
            raise build_declined(refusal.error) from None
        payment = read_payment(intent, [], self._is_ours)
        check_as_ordered(payment, order)
        return payment

    async def _list_payments(self, reference: str, refunded_payment_id: str) -> list[Payment]:
        if refunded_payment_id:
            return await self._cards.list_payments(reference, refunded_payment_id)
        params: Any = {
            "query": f"metadata['reference']:'{reference}'",
            "limit": LIST_LIMIT,
            "expand": [f"data.{each}" for each in INTENT_EXPANDED],
        }
        answer = await self._api.call(self._api.v1.payment_intents.search_async(params))
        found = read_whole_list(answer)
        newest_first = sorted(found, key=lambda each: -int(each.get("created") or 0))
        payments = [
            read_payment(each, [], self._is_ours)
            for each in newest_first
            if not is_by_card(each) and (has_reached_a_bank(each) or is_open(each))
        ]
        return [each for each in payments if each.reference == reference] + await self._cards.list_payments(
            reference, ""
        )

    async def _get_payment(self, payment_id: str) -> Payment | None:
        if is_of_card(payment_id):
            return await self._cards.find(payment_id)
        intent = await self._find_intent(payment_id)
        if intent is None:
            return None
        if is_by_card(intent) and (paid_there := await self._cards.find_by_intent(payment_id)) is not None:
            return paid_there
        charge = intent.get("latest_charge")
        disputes = await list_disputes(self._api, charge) if isinstance(charge, dict) else []
        charged: Any = {"payment_intent": payment_id, "limit": LIST_LIMIT}
        charges = read_whole_list(await self._api.call(self._api.v1.charges.list_async(charged))) if charge else []
        payment = read_payment(intent, disputes, self._is_ours, charges)
        if payment.reference and payment.status is PaymentStatus.RETURNED and is_open(intent):
            # Else it could be confirmed once more, beside the presentment that follows.
            await self._cancel_payment(payment_id)
        return payment

    async def _cancel_payment(self, payment_id: str) -> None:
        if is_session_id(payment_id):
            await self._cards.expire(payment_id)
            return
        try:
            await self._api.call(self._api.v1.payment_intents.cancel_async(payment_id))
        except Refused as refusal:
            log.warning("payment_not_cancelled", payment_id=payment_id, cause=str(refusal))

    async def _find_intent(self, payment_id: str) -> dict[str, Any] | None:
        if not _INTENT_ID.fullmatch(payment_id):
            return None  # the id came from outside: it must not be able to name another path
        intents: Any = self._api.v1.payment_intents
        try:
            return await self._api.call(intents.retrieve_async(payment_id, {"expand": INTENT_EXPANDED}))
        except NotThere:
            return None

    async def _end_earlier(self, payment_id: str) -> None:
        """Sees to it that nothing more is drawn by an attempt before this one.

        Raises: OutcomeUnknown: it may be drawn, or was.
        """
        payment = await self._get_payment(payment_id)
        if payment is None or payment.status is PaymentStatus.CANCELLED or payment.status is PaymentStatus.RETURNED:
            return
        if payment.status is not PaymentStatus.SETTLED:
            await self._cancel_payment(payment_id)
        intent = await self._find_intent(payment_id)
        if intent is not None and intent["status"] != "canceled":
            raise NotAsOrdered("an earlier attempt goes on at the provider", payment_id)

    async def _find_known(self, order: PaymentOrder) -> dict[str, Any] | None:
        """The bank account that its holder verified before, or with an earlier payment; None where neither is so."""
        if order.verification_id:
            return await self.setups.find_usable(order)
        return await self._find_confirmed(order)

    async def _find_confirmed(self, order: PaymentOrder) -> dict[str, Any] | None:
        """The bank account as its holder confirmed it for an earlier payment; None where there is none any more."""
        intent = await self._find_intent(order.confirmed_payment_id)
        if intent is None or not self._is_ours(intent) or not intent.get("customer"):
            return None
        method = find_method(intent)
        theirs = method[METHOD]["routing_number"], method[METHOD]["last4"]
        if method.get("customer") != intent["customer"]:
            return None
        if theirs != (order.routing_number, order.account_number[-4:]):
            return None
        return {"customer": intent["customer"], "payment_method": method["id"], "off_session": True}

    async def _introduce(self, order: PaymentOrder) -> dict[str, Any]:
        """A bank account that Stripe has not seen: it asks the holder to confirm it.

        Raises: Declined: its data are wrong.
        """
        account = await introduce(self._api, self._vault, order)
        return {
            "customer": account.customer_id,
            "payment_method": account.method_id,
            "setup_future_usage": "off_session",
            "mandate_data": dict(MANDATE),
        }

    def _is_ours(self, intent: Mapping[str, Any]) -> bool:
        """Whether it is as we ordered it: what is proved is read from what Stripe would draw, for us alone."""
        try:
            if pays_others(intent):
                return False
            metadata, amount = intent["metadata"], (intent["amount"], intent["currency"].upper())
            used = find_method(intent)["id"]
            proved = spell_proved(metadata["reference"], metadata["presentment"], *amount, used)
            return self._vault.is_proof(str(metadata["proof"]), proved)
        except (KeyError, TypeError, AttributeError):
            return False

    def _under(self, key: str) -> Any:
        return name_key(self._vault, key)
