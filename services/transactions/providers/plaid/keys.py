"""What the address of Plaid says of the keys that are sent there."""

from __future__ import annotations

from urllib.parse import urlsplit

from services.chassis.process.settings import LOOPBACK, ConfigurationError

_DOMAIN, _TEST_HOST = "plaid.com", "sandbox.plaid.com"


def is_live(base_url: str) -> bool:
    """Whether real money moves by it."""
    host = urlsplit(base_url).hostname or ""
    return host != _TEST_HOST and (host == _DOMAIN or host.endswith(f".{_DOMAIN}"))


def check_address(base_url: str) -> None:
    """Whether the secret, and account numbers with it, may be sent there.

    Raises: ConfigurationError.
    """
    url = urlsplit(base_url)
    is_private = url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)
    if base_url and not (is_private and url.hostname):
        raise ConfigurationError("PLAID_BASE_URL must be https, or on this machine")
