"""Stripe's webhooks, proved by Stripe's own SDK. Applying them is for the day payments go through Stripe."""

from __future__ import annotations

import orjson

from services.chassis.values.text import read_text
from services.transactions.domain.errors import WebhookSignatureInvalid
from services.transactions.providers.base import EVENT_TEXT_MAX, ProviderEvent
from services.transactions.providers.signatures import prove_signature


class StripeWebhooks:
    """Without a secret every webhook is refused."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def read_webhook(self, body: bytes, signature: str) -> ProviderEvent:
        """The event, once proved on the raw bytes.

        Raises:
            WebhookSignatureInvalid: missing, old, from the future, wrong, or no event that can be stored.
        """
        prove_signature(self._secret, signature, body)
        try:
            event = orjson.loads(body)
            event_id, event_type = (read_text(event[name], EVENT_TEXT_MAX) for name in ("id", "type"))
        except (ValueError, TypeError, KeyError):
            raise WebhookSignatureInvalid("The signature is not acceptable.") from None
        return ProviderEvent(event_id, event_type)
