"""What the service works with, put together once by `__main__` and handed to the edges."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.chassis.data.database import Database
from services.chassis.values.clock import Clock
from services.transactions.clients import Compliance, Distributions, Escrow
from services.transactions.providers.base import PaymentProvider
from services.transactions.providers.plaid import PlaidWebhooks
from services.transactions.providers.stripe import StripeWebhooks
from services.transactions.vault import Vault

NAME = "transactions"
# Who moves a transaction when no person does.
ACTOR = f"service:{NAME}"


@dataclass(frozen=True)
class Parts:
    """`nudge` is set after a commit that leaves work for a job."""

    database: Database
    clock: Clock
    vault: Vault
    providers: Mapping[str, PaymentProvider]
    stripe: StripeWebhooks
    plaid: PlaidWebhooks
    escrow: Escrow
    compliance: Compliance
    distributions: Distributions
    nudge: asyncio.Event = field(default_factory=asyncio.Event)
