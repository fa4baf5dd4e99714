"""The settings of the transactions service, beside those every process has."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from services.chassis.calls.auth import is_organization
from services.transactions.providers.settings import ProviderSettings


class Settings(ProviderSettings):
    """What its providers need, and who sees what belongs to nobody."""

    operator_org_id: str = ""
    # What the keys of the vault are wrapped with: see wrapping.py.
    wrapping_key_file: Path | None = None

    @field_validator("operator_org_id")
    @classmethod
    def _is_an_organization(cls, name: str) -> str:
        if name and not is_organization(name):
            raise ValueError("is no name of an organization")
        return name
