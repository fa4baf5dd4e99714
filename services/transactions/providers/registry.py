"""The providers of this process: what each needs to be told, and how each is made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from services.chassis.process.settings import Settings
from services.transactions.providers import manual, plaid, sandbox, stripe
from services.transactions.providers.manual.orders import ManualOrders
from services.transactions.providers.plaid.webhooks import PlaidWebhooks
from services.transactions.providers.protocols import Providers
from services.transactions.providers.sandbox.bank import SandboxBank
from services.transactions.providers.sandbox.webhooks import SandboxWebhooks
from services.transactions.providers.stripe.webhooks import StripeWebhooks


class ProviderSettings(Settings):
    """Where the providers are, and what proves that a webhook is theirs."""

    sandbox_bank_url: str = ""
    sandbox_bank_webhook_secret: SecretStr = SecretStr("")
    stripe_webhook_secret: SecretStr = SecretStr("")
    plaid_base_url: str = ""
    plaid_client_id: str = ""
    plaid_secret: SecretStr = SecretStr("")


@asynccontextmanager
async def open_providers(settings: ProviderSettings) -> AsyncIterator[Providers]:
    """Raises ConfigurationError where a setting is missing without which no money could move."""
    settings.require("sandbox_bank_url", "sandbox_bank_webhook_secret")
    bank = SandboxBank(settings.sandbox_bank_url)
    plaid_secret = settings.plaid_secret.get_secret_value()
    try:
        yield Providers(
            orders={sandbox.NAME: bank, manual.NAME: ManualOrders()},
            look_ups={sandbox.NAME: bank},
            webhooks={
                sandbox.NAME: SandboxWebhooks(settings.sandbox_bank_webhook_secret.get_secret_value()),
                stripe.NAME: StripeWebhooks(settings.stripe_webhook_secret.get_secret_value()),
                plaid.NAME: PlaidWebhooks(settings.plaid_base_url, settings.plaid_client_id, plaid_secret),
            },
        )
    finally:
        await bank.close()
