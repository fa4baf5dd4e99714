"""How a stand-in signs a webhook, and how a receiver checks it.

The header is `t=<unix seconds>,v1=<hex HMAC-SHA256(secret, "{t}." + raw body)>`. Several `v1` may stand in one header
(two secrets in rotation): any one that matches will do. Source: the scheme of docs.stripe.com/webhooks.
Our service has a verifier of its own; this one exists so that the stand-ins can be tested without it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

SIGNATURE_HEADER = "Sandbox-Signature"  # of the bank
TOLERANCE_SECONDS = 300


def sign(secret: str, body: bytes, timestamp: int) -> str:
    """The header's value for `body`, signed at `timestamp` (unix seconds of system time, never of the test clock)."""
    return f"t={timestamp},v1={_digest(secret, body, str(timestamp))}"


def build_signer(secret: str) -> Callable[[bytes], str]:
    """Signs each body at the moment at which it leaves."""
    return lambda body: sign(secret, body, int(time.time()))


def verify(secret: str, header: str, body: bytes, now: int, tolerance_seconds: int = TOLERANCE_SECONDS) -> bool:
    """Whether `header` signs exactly these bytes with this secret, within the tolerance before or after `now`."""
    parts = [part.partition("=") for part in header.split(",")]
    timestamps = [value for name, _, value in parts if name.strip() == "t"]
    signatures = [value for name, _, value in parts if name.strip() == "v1"]
    if len(timestamps) != 1 or not (timestamps[0].isascii() and timestamps[0].isdigit() and len(timestamps[0]) <= 12):
        return False
    if abs(now - int(timestamps[0])) > tolerance_seconds:
        return False
    expected = _digest(secret, body, timestamps[0]).encode()
    return any(hmac.compare_digest(expected, signature.encode()) for signature in signatures)


def _digest(secret: str, body: bytes, timestamp: str) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
