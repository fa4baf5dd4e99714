"""The life of a webhook that is about a transaction."""

from __future__ import annotations

from enum import StrEnum


class WebhookStatus(StrEnum):
    """What came before the answer to its order is RECEIVED and waits; APPLIED or FAILED, it is RECEIVED again once two
    persons want it applied again."""

    RECEIVED = "RECEIVED"
    APPLIED = "APPLIED"
    FAILED = "FAILED"
