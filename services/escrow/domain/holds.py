"""Why money is held, and how often by one person."""

from __future__ import annotations

from services.chassis.values.explanation import Explanation
from services.escrow.domain.refusals import TooManyHolds

# Open ones of a person in an escrow account. Two persons release each of them before a closing takes the money, so one
# who places them without end would keep all others from it.
HOLDS_MAX = 20

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


def check_may_hold_more(open_count: int) -> None:
    """
    Args:
        open_count: How many holds of the person are open in the escrow account.

    Raises: TooManyHolds.
    """
    if open_count >= HOLDS_MAX:
        message = f"You have {HOLDS_MAX} open holds in the escrow account: release one, or let it expire."
        raise TooManyHolds(message, holds_max=HOLDS_MAX)
