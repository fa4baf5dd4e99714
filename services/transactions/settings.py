"""The settings of the transactions service, beside those every process has."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from services.chassis.process.settings import Settings as ChassisSettings


class Settings(ChassisSettings):
    """Where its providers are, what their webhooks are signed with, and the key of its encrypted fields."""

    sandbox_bank_url: str = ""
    sandbox_bank_webhook_secret: SecretStr = SecretStr("")
    stripe_webhook_secret: SecretStr = SecretStr("")
    plaid_base_url: str = ""
    plaid_client_id: str = ""
    plaid_secret: SecretStr = SecretStr("")
    field_key_file: Path | None = None
