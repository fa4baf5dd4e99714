"""Disputes of card payments: an axis beside the status, for the money is here while one is open, and may be for ever.

What the provider says of a dispute now is what counts, whatever it said before: only what was lost stays lost, since
the money has gone back. A debit by ACH that is disputed has come back, and has no dispute here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final


class DisputeStatus(StrEnum):
    NONE = "NONE"
    NEEDS_RESPONSE = "NEEDS_RESPONSE"
    UNDER_REVIEW = "UNDER_REVIEW"
    WON = "WON"
    LOST = "LOST"
    MONEY_AWAITED = "MONEY_AWAITED"


OPEN: Final = frozenset({DisputeStatus.NEEDS_RESPONSE, DisputeStatus.UNDER_REVIEW, DisputeStatus.MONEY_AWAITED})


@dataclass(frozen=True, slots=True)
class Dispute:
    """A dispute as the provider has it now.

    Args:
        reference: The provider's id of it.
        reason: In the provider's word.
        due_at: Until when the bank of the card waits for an answer; None where it waits for none.
    """

    reference: str
    status: DisputeStatus
    reason: str
    due_at: datetime | None = None

    def list_changes(self) -> Mapping[str, Any]:
        """What a transaction keeps of it."""
        return {
            "dispute_status": self.status,
            "dispute_reference": self.reference,
            "dispute_reason": self.reason or None,
            "dispute_due_at": self.due_at if self.status is DisputeStatus.NEEDS_RESPONSE else None,
        }


_SAID: Final = {
    DisputeStatus.NEEDS_RESPONSE: "the bank of the card waits for an answer",
    DisputeStatus.UNDER_REVIEW: "somebody has answered at the provider, and the bank of the card decides",
    DisputeStatus.MONEY_AWAITED: (
        "it is over without loss, says the provider, and the money that was taken for it has not come back there: that "
        "is what the payment is held for"
    ),
    DisputeStatus.WON: "it is won, and the payment goes on as before; nothing is left to be done",
    DisputeStatus.LOST: "it is lost, and the money went back",
}


def spell_cause(dispute: Dispute) -> str | None:
    """What a person reads who looks at it; None where there is nothing to look at."""
    if (said := _SAID.get(dispute.status)) is None:
        return None
    why = f" ({dispute.reason})" if dispute.reason else ""
    waits = dispute.status is DisputeStatus.NEEDS_RESPONSE
    until = f" until {dispute.due_at:%Y-%m-%d %H:%M} UTC" if dispute.due_at and waits else ""
    return f"Dispute {dispute.reference}{why}: {said}{until}."
