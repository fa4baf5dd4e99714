"""What we keep of Plaid: a bank account as it knows it, and what it authorized for an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.chassis.values.money import Money

# An authorization that no transfer was made of is good for an hour; nothing is made of it after twice that.
# Source: plaid.com/docs/api/products/transfer/initiating-transfers, transfer/authorization/create.
AUTHORIZATION_LASTS: Final = timedelta(hours=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaidItem:
    """A bank account that was made known to Plaid by its number."""

    account_id: str  # Plaid's
    bank_account_id: str
    account_number_digest: str
    access_token_encrypted: bytes  # vault.py
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaidTransfer:
    """One authorization of an attempt at a transaction, and the transfer that was made of it, if it is known.

    Args:
        number: Of those of the attempt, from 1: the next one follows once this one makes no transfer any more.
        ended_at: When that was certain.
    """

    authorization_id: str
    provider_key: str
    number: int
    reference: str  # our transaction id
    presentment: int
    is_inbound: bool
    amount_minor: int
    currency: str
    account_id: str
    transfer_id: str | None = None
    ended_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)

    def has_expired(self, now: datetime) -> bool:
        return now >= self.created_at + AUTHORIZATION_LASTS
