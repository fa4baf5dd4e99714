"""The sandbox bank's webhooks, signed as Stripe signs."""

from __future__ import annotations

from typing import Any

from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.providers.signatures import read_signed_event


class SandboxWebhooks:
    """Without a secret every webhook is refused."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def read_webhook(self, body: bytes, proof: str) -> ProviderEvent:
        """The event, once proved. Raises WebhookSignatureInvalid: not genuine, or no event that can be stored."""
        return read_signed_event(self._secret, proof, body, _find_payment_id)


def _find_payment_id(event: Any) -> object:
    return event["data"]["payment"]["id"] if event["type"].startswith("payment.") else None
