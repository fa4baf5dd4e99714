"""What becomes of a payment by card, by the test card that the payer chooses: as Stripe names them for test code.

Source: docs.stripe.com/testing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# What an answer to a dispute says, in `uncategorized_text`, to win or lose it.
WINNING, LOSING = "winning_evidence", "losing_evidence"
# Of ours: it is won, and the money comes back a while after it is closed.
WINNING_LATE = "winning_evidence_paid_late"


@dataclass(frozen=True, slots=True)
class CardBehaviour:
    """
    Args:
        says: What it does, for a person.
        declined: (code, decline code) of what its bank refuses.
        disputed: The reason of a dispute that follows the payment.
        is_inquiry: The dispute takes no money yet.
        is_prevented: The network credits who holds the card, and no dispute is filed: there is nothing to answer.
        refund: How a refund ends that is not done at once: `succeeded`, or `failed`.
    """

    brand: str
    last4: str
    says: str
    declined: tuple[str, str] | None = None
    disputed: str = ""
    is_inquiry: bool = False
    is_prevented: bool = False
    refund: str = ""


CARDS: Mapping[str, CardBehaviour] = MappingProxyType(
    {
        "pm_card_visa": CardBehaviour("visa", "4242", "succeeds"),
        "pm_card_mastercard": CardBehaviour("mastercard", "4444", "succeeds"),
        "pm_card_chargeDeclined": CardBehaviour(
            "visa", "0002", "is declined", declined=("card_declined", "generic_decline")
        ),
        "pm_card_chargeDeclinedInsufficientFunds": CardBehaviour(
            "visa", "9995", "is declined: insufficient funds", declined=("card_declined", "insufficient_funds")
        ),
        "pm_card_chargeDeclinedLostCard": CardBehaviour(
            "visa", "9987", "is declined: the card is lost", declined=("card_declined", "lost_card")
        ),
        "pm_card_chargeDeclinedExpiredCard": CardBehaviour(
            "visa", "0069", "is declined: the card has expired", declined=("expired_card", "expired_card")
        ),
        "pm_card_createDispute": CardBehaviour(
            "visa", "0259", "succeeds, and is disputed: fraud", disputed="fraudulent"
        ),
        "pm_card_createDisputeProductNotReceived": CardBehaviour(
            "visa", "2685", "succeeds, and is disputed: nothing was received", disputed="product_not_received"
        ),
        "pm_card_createDisputeInquiry": CardBehaviour(
            "visa", "1976", "succeeds, and its bank inquires", disputed="fraudulent", is_inquiry=True
        ),
        # Of ours: Stripe has no test card for it.
        "pm_card_createDisputePrevented": CardBehaviour(
            "visa", "0101", "succeeds, and its network credits its holder", disputed="fraudulent", is_prevented=True
        ),
        "pm_card_pendingRefund": CardBehaviour("visa", "7726", "succeeds; a refund takes a while", refund="succeeded"),
        "pm_card_refundFail": CardBehaviour("visa", "5126", "succeeds; a refund fails after a while", refund="failed"),
    }
)
