"""The settings of the transactions service, beside those every process has."""

from __future__ import annotations

from pathlib import Path

from services.transactions.providers.registry import ProviderSettings


class Settings(ProviderSettings):
    """What its providers need, and the key of its encrypted fields."""

    field_key_file: Path | None = None
