"""The providers of this process, and how each is made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr

from services.chassis.data.database import Database
from services.chassis.process.settings import ConfigurationError
from services.chassis.values.clock import Clock
from services.transactions.domain.rails import RAILS
from services.transactions.domain.same_day import SameDayWays
from services.transactions.providers import ach_file, manual, plaid, sandbox, stripe
from services.transactions.providers.ach_file.config import read_config
from services.transactions.providers.ach_file.orders import AchFileOrders
from services.transactions.providers.choice import ProviderChoice, read_choice
from services.transactions.providers.manual.orders import ManualOrders
from services.transactions.providers.plaid import keys as plaid_keys
from services.transactions.providers.plaid.webhooks import PlaidWebhooks
from services.transactions.providers.protocols import (
    AccountVerifications,
    BankLinks,
    LinksNotSetUp,
    PaymentCancellations,
    PaymentEvents,
    PaymentOrders,
    PaymentReversals,
    Providers,
    WebhookReader,
)
from services.transactions.providers.sandbox.bank import SandboxBank
from services.transactions.providers.sandbox.webhooks import SandboxWebhooks
from services.transactions.providers.settings import ProviderSettings
from services.transactions.providers.stripe.keys import check_address, check_return_url, is_live
from services.transactions.providers.stripe.payments import StripePayments
from services.transactions.providers.stripe.webhooks import StripeWebhooks
from services.transactions.vault import Vault

if TYPE_CHECKING:
    from services.transactions.providers.plaid.links import PlaidLinks
    from services.transactions.providers.plaid.transfers import PlaidTransfers


@dataclass(slots=True)
class _Found:
    """What this process is set up for, by the providers' names."""

    asked: dict[str, SandboxBank | StripePayments | PlaidTransfers | AchFileOrders] = field(default_factory=dict)
    cancellations: dict[str, PaymentCancellations] = field(default_factory=dict)
    verifications: dict[str, AccountVerifications] = field(default_factory=dict)
    reversals: dict[str, PaymentReversals] = field(default_factory=dict)
    events: dict[str, PaymentEvents] = field(default_factory=dict)
    links: BankLinks = field(default_factory=lambda: LinksNotSetUp(plaid.SETTING))
    opened: list[PlaidLinks] = field(default_factory=list)


@asynccontextmanager
async def open_providers(
    settings: ProviderSettings, database: Database, clock: Clock, vault: Vault
) -> AsyncIterator[Providers]:
    """
    Args:
        database: With the clock, of those that keep their payments in our own tables.
        vault: Seals account numbers there, and proves what was ordered elsewhere.

    Raises:
        ConfigurationError: a setting is missing without which no money could move, or they contradict each other.
    """
    found = _Found()
    ach_files = None if settings.ach_file_config is None else read_config(settings.ach_file_config)
    if ach_files is not None:
        files = AchFileOrders(ach_files, database, clock, vault)
        found.asked[ach_file.NAME] = found.reversals[ach_file.NAME] = files
    if settings.sandbox_bank_url:
        _check_given(settings, "sandbox_bank_webhook_secret", "sandbox_bank_url")
        found.asked[sandbox.NAME] = SandboxBank(settings.sandbox_bank_url)
    if key := settings.stripe_api_key.get_secret_value():
        _add_stripe(found, key, settings, vault)
    plaid_keys.check_address(settings.plaid_base_url)
    plaid_keys.check_link(settings.plaid_link_client_name, settings.plaid_link_redirect_url)
    if secret := settings.plaid_secret.get_secret_value():
        _add_plaid(found, secret, settings, database, clock, vault)
    orders: dict[str, PaymentOrders] = {**found.asked, manual.NAME: ManualOrders()}
    choice = read_choice(settings.payment_providers_file, orders.keys())
    _check_choice(choice, settings)
    try:
        yield Providers(
            orders=orders,
            look_ups=found.asked,
            webhooks=build_webhook_readers(settings),
            links=found.links,
            events=found.events,
            cancellations=found.cancellations,
            verifications=found.verifications,
            reversals=found.reversals,
            choice=choice,
            ach_files=ach_files,
        )
    finally:
        for each in (*found.asked.values(), *found.opened):
            await each.close()


def _add_stripe(found: _Found, key: str, settings: ProviderSettings, vault: Vault) -> None:
    """Raises ConfigurationError."""
    _check_given(settings, "stripe_webhook_secret", "stripe_api_key")
    check_address(key, settings.stripe_api_url)
    payments = StripePayments(key, settings.stripe_api_url, vault, return_url=settings.stripe_return_url)
    found.asked[stripe.NAME] = found.cancellations[stripe.NAME] = payments
    found.events[stripe.NAME], found.verifications[stripe.NAME] = payments.events, payments.setups


def _add_plaid(
    found: _Found, secret: str, settings: ProviderSettings, database: Database, clock: Clock, vault: Vault
) -> None:
    """Raises ConfigurationError."""
    _check_given(settings, "plaid_base_url", "plaid_secret")
    _check_given(settings, "plaid_client_id", "plaid_secret")
    # Here, for Plaid's own client is hundreds of modules, and twenty megabytes.
    from services.transactions.providers.plaid.links import PlaidLinks
    from services.transactions.providers.plaid.transfers import PlaidTransfers

    there = settings.plaid_base_url, settings.plaid_client_id, secret
    same_day = SameDayWays(debits=settings.plaid_same_day_debits, credits=settings.plaid_same_day_credits)
    transfers = PlaidTransfers(*there, database, clock, vault, same_day=same_day)
    found.asked[plaid.NAME], found.events[plaid.NAME] = transfers, transfers.events
    name, page = settings.plaid_link_client_name, settings.plaid_link_redirect_url
    found.links = links = PlaidLinks(*there, client_name=name, redirect_url=page)
    found.opened.append(links)


def _check_choice(choice: ProviderChoice, settings: ProviderSettings) -> None:
    """Raises ConfigurationError."""
    if any(choice.names(rail.payment_method, stripe.NAME) for rail in RAILS.values() if rail.is_for_contributions):
        check_return_url(settings.stripe_return_url)
    is_plaid_given = bool(settings.plaid_secret.get_secret_value())
    live = {
        "STRIPE_API_KEY": is_live(settings.stripe_api_key.get_secret_value()),
        "PLAID_BASE_URL": is_plaid_given and plaid_keys.is_live(settings.plaid_base_url),
    }
    if sandbox.NAME in choice.list_carriers() and any(live.values()):
        real = next(name for name, is_real in live.items() if is_real)
        raise ConfigurationError(f"{real} is live, and the simulator pays nothing: choose others for all of ACH")


def _check_given(settings: ProviderSettings, name: str, needed_by: str) -> None:
    """Raises ConfigurationError."""
    given = getattr(settings, name)
    if not (given.get_secret_value() if isinstance(given, SecretStr) else given):
        raise ConfigurationError(f"missing: {name.upper()}, beside {needed_by.upper()}")


def build_webhook_readers(settings: ProviderSettings) -> dict[str, WebhookReader]:
    plaid_secret = settings.plaid_secret.get_secret_value()
    return {
        sandbox.NAME: SandboxWebhooks(settings.sandbox_bank_webhook_secret.get_secret_value()),
        stripe.NAME: StripeWebhooks(
            settings.stripe_webhook_secret.get_secret_value(), settings.stripe_api_key.get_secret_value()
        ),
        plaid.NAME: PlaidWebhooks(settings.plaid_base_url, settings.plaid_client_id, plaid_secret),
    }
