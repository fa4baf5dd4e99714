"""What the service works with, put together once by `__main__` and handed to the edges."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.data.operations import Operations
from services.transactions.clients import Compliance, Distributions, Escrow
from services.transactions.providers.protocols import Providers
from services.transactions.vault import Vault

NAME = "transactions"
# Who moves a transaction when no person does.
ACTOR = f"service:{NAME}"


@dataclass(frozen=True, kw_only=True)
class Dependencies(Operations):
    """The transactions of this service, and whom it asks."""

    vault: Vault
    providers: Providers
    escrow: Escrow
    compliance: Compliance
    distributions: Distributions
