"""The events of a provider that a test has, or none."""

from __future__ import annotations

from typing import Any

from services.transactions.providers import plaid, stripe
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.protocols import EventPage, PaymentEvents
from services.transactions.providers.stripe.payments import StripePayments


class NoEvents:
    feed = "none"

    async def begin(self) -> EventPage:
        return EventPage([], "")

    async def list_oldest(self) -> EventPage:
        return EventPage([], "")

    async def list_events(self, after_id: str) -> EventPage:
        return EventPage([], after_id)


def events_of(provider: str, bank: Any) -> PaymentEvents:
    """Those that it keeps, where it is this provider; else none."""
    kept = {stripe.NAME: StripePayments, plaid.NAME: PlaidTransfers}
    return bank.events if provider in kept and isinstance(bank, kept[provider]) else NoEvents()
