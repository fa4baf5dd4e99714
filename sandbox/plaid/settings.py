"""What the stand-in is told at start: environment variables, or files of the same lower-case name in `SECRETS_DIR`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True)

    bind_host: str = "127.0.0.1"
    sandbox_plaid_port: int = Field(ge=1, le=65535)
    sandbox_plaid_database: Path
    sandbox_plaid_client_id: str = Field(min_length=1)
    sandbox_plaid_secret: SecretStr = Field(min_length=8)
    sandbox_plaid_webhook_url: HttpUrl | None = None
    sandbox_plaid_settle_ms: int = Field(default=200, ge=0)
    """How long a transfer is pending, and then posted. Plaid's takes a banking day or two for each."""
    sandbox_plaid_sweep_ms: int = Field(default=60_000, ge=0)
    """After which all that has settled is swept. Plaid does so each banking day."""
    sandbox_plaid_authorization_minutes: int = Field(default=60, ge=1)
    """An authorization that is not used expires after so many minutes, as Plaid's does."""
    sandbox_plaid_key_lifetime_hours: int = Field(default=48, ge=1)
    """Idempotency keys are forgotten after so many hours, as Plaid's are."""

    @classmethod
    def load(cls) -> Self:
        return cls(_secrets_dir=os.environ.get("SECRETS_DIR"))
