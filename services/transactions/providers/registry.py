"""The providers of this process, and how each is made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.transactions.providers import manual, plaid, sandbox, stripe
from services.transactions.providers.manual.orders import ManualOrders
from services.transactions.providers.plaid.webhooks import PlaidWebhooks
from services.transactions.providers.protocols import Providers, WebhookReader
from services.transactions.providers.sandbox.bank import SandboxBank
from services.transactions.providers.sandbox.webhooks import SandboxWebhooks
from services.transactions.providers.settings import ProviderSettings
from services.transactions.providers.stripe.webhooks import StripeWebhooks


@asynccontextmanager
async def open_providers(settings: ProviderSettings) -> AsyncIterator[Providers]:
    """Raises ConfigurationError where a setting is missing without which no money could move."""
    settings.require("sandbox_bank_url", "sandbox_bank_webhook_secret")
    bank = SandboxBank(settings.sandbox_bank_url)
    try:
        yield Providers(
            orders={sandbox.NAME: bank, manual.NAME: ManualOrders()},
            look_ups={sandbox.NAME: bank},
            webhooks=build_webhook_readers(settings),
        )
    finally:
        await bank.close()


def build_webhook_readers(settings: ProviderSettings) -> dict[str, WebhookReader]:
    plaid_secret = settings.plaid_secret.get_secret_value()
    return {
        sandbox.NAME: SandboxWebhooks(settings.sandbox_bank_webhook_secret.get_secret_value()),
        stripe.NAME: StripeWebhooks(settings.stripe_webhook_secret.get_secret_value()),
        plaid.NAME: PlaidWebhooks(settings.plaid_base_url, settings.plaid_client_id, plaid_secret),
    }
