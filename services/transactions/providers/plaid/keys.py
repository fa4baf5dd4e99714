"""What the address of Plaid says of the keys that are sent there."""

from __future__ import annotations

from urllib.parse import urlsplit

from services.chassis.process.settings import LOOPBACK, ConfigurationError

_DOMAIN, _TEST_HOST = "plaid.com", "sandbox.plaid.com"
_NAME_CHARACTERS_MAX = 30


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


def check_link(client_name: str, redirect_url: str) -> None:
    """What a person reads who signs in to a bank, and where banks that have pages of their own send them back to.

    Source: plaid.com/docs/api/link, client_name; plaid.com/docs/link/oauth.

    Raises: ConfigurationError.
    """
    if not 0 < len(client_name) <= _NAME_CHARACTERS_MAX:
        raise ConfigurationError(f"PLAID_LINK_CLIENT_NAME must have 1 to {_NAME_CHARACTERS_MAX} characters")
    url = urlsplit(redirect_url)
    is_page = url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)
    if redirect_url and not (is_page and url.hostname and not url.query and not url.fragment):
        raise ConfigurationError("PLAID_LINK_REDIRECT_URL must be a page of yours, by https and without a query")
