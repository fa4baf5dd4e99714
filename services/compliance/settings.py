"""The settings of compliance, beside those every process has."""

from __future__ import annotations

from pathlib import Path

from services.chassis.process.settings import Settings as ChassisSettings


class Settings(ChassisSettings):
    # What it signs the tokens of API keys with: see services/compliance/key_tokens.py.
    api_token_key_file: Path | None = None
