"""Stripe's webhooks."""

from __future__ import annotations

import orjson

from services.chassis.values.text import read_text
from services.transactions.domain.refusals import WebhookSignatureInvalid
from services.transactions.providers.protocols import TEXT_CHARACTERS_MAX, ProviderEvent
from services.transactions.providers.signatures import prove_signature


class StripeWebhooks:
    """Without a secret every webhook is refused."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def read_webhook(self, body: bytes, proof: str) -> ProviderEvent:
        """The event, once proved. Raises WebhookSignatureInvalid: not genuine, or no event that can be stored."""
        prove_signature(self._secret, proof, body)
        try:
            event = orjson.loads(body)
            event_id, event_type = (read_text(event[name], TEXT_CHARACTERS_MAX) for name in ("id", "type"))
        except (ValueError, KeyError, TypeError):
            raise WebhookSignatureInvalid from None
        return ProviderEvent(event_id, event_type)
