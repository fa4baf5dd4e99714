"""What a key of Stripe's says of itself."""

from __future__ import annotations

from urllib.parse import urlsplit

from services.chassis.process.settings import LOOPBACK, ConfigurationError


def is_live(api_key: str) -> bool:
    """Whether real money moves by it."""
    return "_live_" in api_key


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
