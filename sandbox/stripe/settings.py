"""What the stand-in is told at start: environment variables, or files of the same lower-case name in `SECRETS_DIR`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True)

    bind_host: str = "127.0.0.1"
    sandbox_stripe_port: int = Field(ge=1, le=65535)
    sandbox_stripe_database: Path
    sandbox_stripe_api_key: SecretStr = Field(min_length=8)
    sandbox_stripe_webhook_url: HttpUrl | None = None
    sandbox_stripe_webhook_secret: SecretStr = SecretStr("")
    sandbox_stripe_settle_ms: int = Field(default=200, ge=0)
    """How long a debit is under way. Stripe's takes four business days, and a moment in its test mode."""
    sandbox_stripe_payout_ms: int = Field(default=60_000, ge=0)
    """After which all that was collected is paid out. Stripe does so each day, by default."""
    sandbox_stripe_fees: Literal["netted", "billed"] = "netted"
    """Whether its fees are kept of what is collected, as Stripe does by default, or billed each month."""
    sandbox_stripe_key_lifetime_hours: int = Field(default=24, ge=1)
    """Idempotency keys are forgotten after so many hours, as Stripe may."""

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> Self:
        if self.sandbox_stripe_webhook_url and len(self.sandbox_stripe_webhook_secret.get_secret_value()) < 16:
            raise ValueError("SANDBOX_STRIPE_WEBHOOK_SECRET must have at least 16 characters when a webhook URL is set")
        return self

    @classmethod
    def load(cls) -> Self:
        return cls(_secrets_dir=os.environ.get("SECRETS_DIR"))
