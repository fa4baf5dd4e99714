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


def explain_hold(reason: str, transaction_id: str | None) -> Explanation:
    """In the words of the rule: those of whoever placed the hold stand beside it."""
    statement, source = _REASONS[reason]
    operands = (("transaction", transaction_id),) if transaction_id else ()
    return Explanation(statement, rule=reason, operands=operands, source=source)
