"""What a provider notifies us of, and the life of a webhook that is about a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class WebhookStatus(StrEnum):
    """What came before the answer to its order is RECEIVED and waits; APPLIED or FAILED, it is RECEIVED again once two
    persons want it applied again."""

    RECEIVED = "RECEIVED"
    APPLIED = "APPLIED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """A genuine webhook, or an event of a list that the provider keeps: which event, and which payment it is about.

    Or which verification of a bank account. That is empty where its type is not applied.

    Args:
        is_knock: It is about no payment, and says that events can be fetched.
    """

    event_id: str
    event_type: str
    payment_id: str = ""
    is_knock: bool = False
