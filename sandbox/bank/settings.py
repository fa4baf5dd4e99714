"""What the bank is told at start: environment variables, or files of the same lower-case name in `SECRETS_DIR`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True)

    bind_host: str = "127.0.0.1"
    sandbox_bank_port: int = Field(ge=1, le=65535)
    sandbox_bank_database: Path
    sandbox_bank_webhook_url: HttpUrl | None = None
    sandbox_bank_webhook_secret: SecretStr = SecretStr("")
    sandbox_bank_key_lifetime_hours: int = Field(default=24, ge=1)
    """Idempotency keys are forgotten after this many hours of business time, as real providers may do."""
    clock_file: Path | None = None

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> Self:
        if self.sandbox_bank_webhook_url and len(self.sandbox_bank_webhook_secret.get_secret_value()) < 16:
            raise ValueError("SANDBOX_BANK_WEBHOOK_SECRET must have at least 16 characters when a webhook URL is set")
        return self

    @classmethod
    def load(cls) -> Self:
        return cls(_secrets_dir=os.environ.get("SECRETS_DIR"))
