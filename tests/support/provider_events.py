"""The events and sweeps of a provider that a test has, and the verifications of accounts, or none."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from services.transactions.domain.sweeps import ProviderLine, ProviderSweep, SweepList
from services.transactions.domain.verifications import ProviderVerification
from services.transactions.providers import plaid, stripe
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.protocols import (
    AccountVerifications,
    EventPage,
    OutcomeUnknown,
    PaymentEvents,
    ProviderSweeps,
    VerificationOrder,
)
from services.transactions.providers.stripe.payments import StripePayments


class NoEvents:
    feed = "none"

    async def begin(self) -> EventPage:
        return EventPage([], "")

    async def list_oldest(self) -> EventPage:
        return EventPage([], "")

    async def list_events(self, after_id: str) -> EventPage:
        return EventPage([], after_id)


class NoSweeps:
    feed = "none"

    async def list_sweeps(self, since: datetime) -> SweepList:
        return SweepList([])

    async def list_lines(self, sweep: ProviderSweep) -> list[ProviderLine]:
        return []


class NoVerifications:
    def is_about(self, provider_id: str) -> bool:
        return False

    async def begin(self, order: VerificationOrder) -> ProviderVerification:
        raise OutcomeUnknown("nobody is asked")

    async def get_verification(self, provider_id: str) -> ProviderVerification | None:
        return None


def verifications_of(bank: Any) -> AccountVerifications:
    return bank.setups if isinstance(bank, StripePayments) else NoVerifications()


def events_of(provider: str, bank: Any) -> PaymentEvents:
    """Those that it keeps, where it is this provider; else none."""
    return bank.events if _is_of(provider, bank) else NoEvents()


def sweeps_of(provider: str, bank: Any) -> ProviderSweeps:
    """Those that it makes, where it is this provider; else none."""
    return bank.sweeps if _is_of(provider, bank) else NoSweeps()


def _is_of(provider: str, bank: Any) -> bool:
    kept = {stripe.NAME: StripePayments, plaid.NAME: PlaidTransfers}
    return provider in kept and isinstance(bank, kept[provider])
