"""The events of a provider that a test has, and the verifications of accounts, or none."""

from __future__ import annotations

from typing import Any

from services.transactions.domain.verifications import ProviderVerification
from services.transactions.providers import plaid, stripe
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.protocols import (
    AccountVerifications,
    EventPage,
    OutcomeUnknown,
    PaymentEvents,
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
    kept = {stripe.NAME: StripePayments, plaid.NAME: PlaidTransfers}
    return bank.events if provider in kept and isinstance(bank, kept[provider]) else NoEvents()
