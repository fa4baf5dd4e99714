"""Stripe's webhooks. Source: docs.stripe.com/api/events/types."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from services.transactions.domain.refusals import WebhookSignatureInvalid
from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.providers.signatures import read_signed_event
from services.transactions.providers.stripe.keys import is_live

# Which field of an event's object says what it is about, by the first word of its type.
_NAMED_BY: Final[Mapping[str, str]] = MappingProxyType(
    {**dict.fromkeys(("payment_intent", "checkout", "refund", "setup_intent", "mandate"), "id")}
    | {"charge": "payment_intent"}
)


class StripeWebhooks:
    """Without a secret every webhook is refused.

    Args:
        api_key: With which the payments are asked for; without one, webhooks are proved and stored, and not applied.
    """

    def __init__(self, secret: str, api_key: str = "") -> None:
        self._secret = secret
        self._is_applied = bool(api_key)
        self._is_live = is_live(api_key)

    async def read_webhook(self, body: bytes, proof: str) -> ProviderEvent:
        """The event, once proved.

        Raises:
            WebhookSignatureInvalid: not genuine, or no event that can be stored, or one of test payments where money is
                real, or the other way round.
        """
        return read_signed_event(self._secret, proof, body, self._find_payment_id)

    def _find_payment_id(self, event: Any) -> object:
        """Raises: WebhookSignatureInvalid: of test payments where money is real, or the other way round."""
        if not self._is_applied:
            return None
        if event["livemode"] is not self._is_live:
            raise WebhookSignatureInvalid
        return find_payment_id(event)


def find_payment_id(event: Any) -> object:
    """Of the PaymentIntent or page that an event is about, or whose charge, dispute or refund; of the SetupIntent or
    mandate by which a bank account was verified; None where of none.

    Raises: KeyError, TypeError: it is no event.
    """
    about, _, _ = event["type"].partition(".")
    found = event["data"]["object"]
    return found[_NAMED_BY[about]] if about in _NAMED_BY else None
