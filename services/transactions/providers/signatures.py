"""The signature that Stripe puts on webhooks, `t=<unix>,v1=<hex HMAC-SHA256>`; the sandbox bank signs the same way.

Source: docs.stripe.com/webhooks#verify-manually.
"""

from __future__ import annotations

import re
import time

from stripe import SignatureVerificationError, WebhookSignature

from services.transactions.domain.refusals import WebhookSignatureInvalid

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
