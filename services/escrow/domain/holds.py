"""Why money is held."""

from __future__ import annotations

from services.chassis.values.explanation import Explanation

# What each reason says, and where it comes from. Until when a payment is at risk, and by which rule of which rail, its
# transaction explains.
_REASONS = {
    "RETURN_RISK": (
        "The bank may still take the payment back.",
        "house rule: a contribution is held until the return-risk period of its transaction is over",
    ),
    "DISPUTE": ("A dispute about this money is open.", ""),
    "MANUAL": ("A person holds this money.", ""),
}


def explain_hold(reason: str, description: str, transaction_id: str | None) -> Explanation:
    """In the words of whoever placed the hold, else in those of the rule."""
    statement, source = _REASONS[reason]
    operands = (("transaction", transaction_id),) if transaction_id else ()
    return Explanation(description or statement, rule=reason, operands=operands, source=source)
