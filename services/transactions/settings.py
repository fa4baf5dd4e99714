"""The settings of the transactions service, beside those every process has."""

from __future__ import annotations

from services.transactions.providers.settings import ProviderSettings


class Settings(ProviderSettings):
    """What its providers need, and who sees what belongs to nobody."""

    operator_org_id: str = ""
