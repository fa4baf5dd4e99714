"""What a key of Stripe's says of itself, and under which keys of ours it does something once."""

from __future__ import annotations

from urllib.parse import urlsplit

from services.chassis.process.settings import LOOPBACK, ConfigurationError
from services.transactions.vault import Vault


def is_live(api_key: str) -> bool:
    """Whether real money moves by it."""
    return "_live_" in api_key


def name_key(vault: Vault, key: str) -> dict[str, str]:
    """Under which Stripe does something once.

    Nobody else knows which key comes next, so nobody uses it up.
    """
    return {"idempotency_key": f"{key}:{vault.prove(key)}"}


def check_address(api_key: str, base_url: str) -> None:
    """Whether the key, and account numbers with it, may be sent there.

    Raises: ConfigurationError.
    """
    if not base_url:
        return
    url = urlsplit(base_url)
    if is_live(api_key):
        raise ConfigurationError("STRIPE_API_URL is for a stand-in, and STRIPE_API_KEY is live")
    if url.scheme != "https" and url.hostname not in LOOPBACK:
        raise ConfigurationError("STRIPE_API_URL must be https, or on this machine")


def check_return_url(return_url: str) -> None:
    """Where a payer is taken once the card is entered.

    Raises: ConfigurationError.
    """
    url = urlsplit(return_url)
    if not url.hostname or (url.scheme != "https" and url.hostname not in LOOPBACK):
        raise ConfigurationError("STRIPE_RETURN_URL must be a page of yours, by https: payers by card are taken there")
