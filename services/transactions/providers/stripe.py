"""Stripe's webhooks, proved by Stripe's own SDK. Applying them is for the day payments go through Stripe."""

from __future__ import annotations

import re
import time

import orjson
from stripe import SignatureVerificationError, WebhookSignature

from services.transactions.domain.errors import WebhookSignatureInvalid
from services.transactions.providers.base import ProviderEvent

TOLERANCE_SECONDS = 300


class StripeWebhooks:
    """Without a secret every webhook is refused."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def read_webhook(self, body: bytes, signature: str) -> ProviderEvent:
        """The event, once proved on the raw bytes.

        Raises:
            WebhookSignatureInvalid: missing, old, from the future (which the SDK does not look at), wrong, or no event.
        """
        try:
            WebhookSignature.verify_header(body, signature, self._secret, TOLERANCE_SECONDS)
            stamps = re.findall(r"(?:^|,)t=(\d{1,12})(?=,|$)", signature)
            if len(stamps) != 1 or int(stamps[0]) > time.time() + TOLERANCE_SECONDS:
                raise ValueError("from the future")
            event = orjson.loads(body)
            event_id, event_type = event["id"], event["type"]
            if not all(isinstance(text, str) and 0 < len(text) <= 255 for text in (event_id, event_type)):
                raise TypeError("no event")
        except (SignatureVerificationError, ValueError, TypeError, KeyError):
            raise WebhookSignatureInvalid("The signature is not acceptable.") from None
        return ProviderEvent(event_id, event_type)
