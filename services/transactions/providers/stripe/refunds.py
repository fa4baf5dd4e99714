"""Refunds to the card that a contribution came from: one an order, which is looked for before it is made.

Stripe has no search for refunds; it lists those of a payment, so the payment that is given back has to be named. Who
has our key can refund there: each of ours bears a proof over the order and that payment. A refund may fail weeks after
it succeeded: then its money is back at Stripe. Source: docs.stripe.com/api/refunds, docs.stripe.com/refunds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from services.chassis.values.money import Money
from services.chassis.values.text import read_text
from services.transactions.domain.payments import Payment, PaymentStatus, find_difference
from services.transactions.providers.protocols import (
    NOT_READ,
    TEXT_CHARACTERS_MAX,
    Declined,
    OutcomeUnknown,
    PaymentOrder,
)
from services.transactions.providers.stripe.card_states import WORD
from services.transactions.providers.stripe.client import (
    LIST_LIMIT,
    NotThere,
    Refused,
    StripeApi,
    build_declined,
    read_whole_list,
)
from services.transactions.providers.stripe.fees import EXPANDED, sum_fees
from services.transactions.providers.stripe.keys import name_key
from services.transactions.providers.stripe.states import is_of_ours
from services.transactions.vault import Vault

_REFUND_ID = re.compile(r"re_[A-Za-z0-9_]{1,200}")
# The reason of a refund that failed for none. Source: docs.stripe.com/api/refunds/object#refund_object-failure_reason.
_UNEXPLAINED: Final = "unknown"
# Also where the dispute was won. Source: docs.stripe.com/error-codes#charge-disputed.
_DISPUTED: Final = (
    "The payment was disputed, and the provider refunds nothing of it to its card: name a bank account of the party."
)
# A refund that has failed had gone out, as far as anybody could tell: it is owed again.
_STATUSES: Final[Mapping[str, PaymentStatus]] = MappingProxyType(
    {
        "pending": PaymentStatus.PENDING,
        "requires_action": PaymentStatus.PENDING,
        "succeeded": PaymentStatus.SETTLED,
        "failed": PaymentStatus.RETURNED,
        "canceled": PaymentStatus.CANCELLED,
    }
)


def is_refund_id(payment_id: str) -> bool:
    return _REFUND_ID.fullmatch(payment_id) is not None


class CardRefunds:
    """
    Args:
        vault: Whose codes over what was ordered nobody else makes.
    """

    def __init__(self, api: StripeApi, vault: Vault) -> None:
        self._api = api
        self._vault = vault

    async def submit(self, order: PaymentOrder, intent_id: str) -> Payment:
        """
        Args:
            intent_id: Of what was paid by the card.

        Raises: Declined, OutcomeUnknown.
        """
        known = await self.list_payments(order.reference, intent_id)
        payment = known[0] if known else await self._refund(order, intent_id)
        wrong = find_difference(
            payment, reference=order.reference, amount=order.amount, is_inbound=False, presentment=1
        )
        if wrong:
            raise OutcomeUnknown(f"the provider's answer differs in {wrong}")
        return payment

    async def list_payments(self, reference: str, intent_id: str) -> list[Payment]:
        """The refunds of a payment that were ordered under our reference, the newest first."""
        read = [self._read(each) for each in await self.list_refunds(intent_id)]
        return [each for each in read if each.reference == reference]

    async def list_refunds(self, intent_id: str) -> list[dict[str, Any]]:
        asked: Any = {
            "payment_intent": intent_id,
            "limit": LIST_LIMIT,
            "expand": [f"data.{each}" for each in EXPANDED],
        }
        return read_whole_list(await self._api.call(self._api.v1.refunds.list_async(asked)))

    async def find(self, refund_id: str) -> Payment | None:
        refunds: Any = self._api.v1.refunds
        try:
            return self._read(await self._api.call(refunds.retrieve_async(refund_id, {"expand": list(EXPANDED)})))
        except NotThere:
            return None

    def sum_ours(self, refunds: Iterable[Mapping[str, Any]]) -> int:
        """How much of a payment we gave back, in minor units. A proof that somebody copied counts once."""
        going = {PaymentStatus.PENDING, PaymentStatus.SETTLED}
        read = [each for each in map(self._read, refunds) if each.reference and each.status in going]
        return sum({each.reference: each.amount.amount_minor for each in read}.values())

    async def _refund(self, order: PaymentOrder, intent_id: str) -> Payment:
        amount = order.amount.amount_minor, order.amount.currency
        proof = self._vault.prove(_spell_proved(order.reference, *amount, intent_id))
        metadata = {"reference": order.reference, "proof": proof}
        params: Any = {
            "payment_intent": intent_id,
            "amount": order.amount.amount_minor,
            "metadata": metadata,
            "expand": list(EXPANDED),
        }
        key: Any = name_key(self._vault, order.key)
        try:
            return self._read(await self._api.call(self._api.v1.refunds.create_async(params, key)))
        except Refused as refusal:
            declined = build_declined(refusal.error)
            if declined.metadata.get("provider_code") != "charge_disputed":
                raise declined from None
            raise Declined(declined.code, _DISPUTED, retryable=False, metadata=declined.metadata) from None

    def _read(self, refund: Mapping[str, Any]) -> Payment:
        """Raises: OutcomeUnknown: it is not what Stripe calls a refund."""
        ours = self._is_ours(refund)
        try:
            why = str(refund.get("failure_reason") or _UNEXPLAINED)
            said = why if why != _UNEXPLAINED and WORD.fullmatch(why) else ""
            return Payment(
                payment_id=read_text(refund["id"], TEXT_CHARACTERS_MAX),
                reference=read_text(refund["metadata"]["reference"], TEXT_CHARACTERS_MAX) if ours else "",
                status=_STATUSES[refund["status"]],
                amount=Money(refund["amount"], refund["currency"].upper()),
                is_inbound=False,
                presentment=1,
                changed_at=datetime.fromtimestamp(refund["created"], UTC),
                decline_code=said,
                reason=said.replace("_", " "),
                is_misused=not ours and is_of_ours(refund),
                fee_minor=sum_fees(refund["currency"].upper(), refund),
            )
        except NOT_READ:
            raise OutcomeUnknown("the provider's answer is not a refund") from None

    def _is_ours(self, refund: Mapping[str, Any]) -> bool:
        try:
            metadata, amount = refund["metadata"], (refund["amount"], refund["currency"].upper())
            proved = _spell_proved(metadata["reference"], *amount, refund["payment_intent"])
            return self._vault.is_proof(str(metadata["proof"]), proved)
        except (KeyError, TypeError, AttributeError):
            return False


def _spell_proved(reference: str, amount_minor: int, currency: str, intent_id: str) -> str:
    """What of an order the proof is over."""
    return "|".join(("stripe refund", reference, str(amount_minor), currency, intent_id))
