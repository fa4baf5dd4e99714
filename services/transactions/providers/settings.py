"""What the providers of this process need to be told. A local instance hands on whatever stands here."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from services.chassis.process.settings import Settings


class ProviderSettings(Settings):
    """Where the providers are, and what proves that a webhook is theirs."""

    sandbox_bank_url: str = ""
    sandbox_bank_webhook_secret: SecretStr = SecretStr("")
    # Who carries what, if others than the table says: see services/transactions/providers/choice.py.
    payment_providers_file: Path | None = None
    ach_file_config: Path | None = None
    stripe_api_key: SecretStr = SecretStr("")
    stripe_api_url: str = ""
    stripe_webhook_secret: SecretStr = SecretStr("")
    stripe_return_url: str = ""
    plaid_base_url: str = ""
    plaid_client_id: str = ""
    plaid_secret: SecretStr = SecretStr("")
    # What settles on the day on which it is ordered: Plaid's fee for it is another one.
    plaid_same_day_debits: bool = False
    plaid_same_day_credits: bool = False
    # What a holder reads when signing in to a bank by Link, and where a bank sends the holder back to.
    plaid_link_client_name: str = "RealCo"
    plaid_link_redirect_url: str = ""
