"""The signature that Stripe puts on webhooks, `t=<unix>,v1=<hex HMAC-SHA256>`; the sandbox bank signs the same way.

Source: docs.stripe.com/webhooks#verify-manually.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import orjson
from stripe import SignatureVerificationError, WebhookSignature

from services.chassis.values.text import read_text
from services.transactions.domain.refusals import WebhookSignatureInvalid
from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.providers.protocols import TEXT_CHARACTERS_MAX

TOLERANCE_SECONDS = 300


def prove_signature(secret: str, header: str, body: bytes) -> None:
    """Proves that the holder of `secret` signed these bytes within the last five minutes; any of several v1 may match.

    Raises:
        WebhookSignatureInvalid: no secret is set, or the signature is missing, malformed, wrong, old, or from the
            future (which Stripe's own check does not look at).
    """
    stamps = re.findall(r"(?:^|,)\s*t=([^,]*)", header)
    try:
        WebhookSignature.verify_header(body, header, secret, TOLERANCE_SECONDS)
        if len(stamps) != 1 or int(stamps[0]) > time.time() + TOLERANCE_SECONDS:
            raise ValueError("from the future")
    except (SignatureVerificationError, ValueError, TypeError):  # the last: a signature that is not ASCII
        raise WebhookSignatureInvalid from None


def read_signed_event(
    secret: str, proof: str, body: bytes, find_payment_id: Callable[[Any], object] = lambda event: None
) -> ProviderEvent:
    """The event, once proved.

    Args:
        find_payment_id: The id of the payment that an event is about; None where it is about none.

    Raises:
        WebhookSignatureInvalid: not genuine, or no event that can be stored.
    """
    prove_signature(secret, proof, body)
    try:
        return read_event(orjson.loads(body), find_payment_id)
    except (ValueError, KeyError, TypeError):
        raise WebhookSignatureInvalid from None


def read_event(event: Any, find_payment_id: Callable[[Any], object]) -> ProviderEvent:
    """
    Args:
        find_payment_id: As in `read_signed_event`.

    Raises: ValueError, KeyError, TypeError: it is none that can be stored.
    """
    event_id, event_type = (read_text(event[name], TEXT_CHARACTERS_MAX) for name in ("id", "type"))
    found = find_payment_id(event)
    return ProviderEvent(event_id, event_type, "" if found is None else read_text(found, TEXT_CHARACTERS_MAX))
