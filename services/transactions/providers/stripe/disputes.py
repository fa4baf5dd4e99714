"""Whether a dispute that is over took any money for good: what Stripe's balance says counts, and not the word alone.

`won`, `warning_closed` and `prevented` all end a dispute, and none of them says where the money is. `prevented` is of
what the network credited to who holds the card before a chargeback was filed (Visa's Rapid Dispute Resolution): the
money may be gone. The movements of the balance that a dispute names say what was withdrawn and what was given back;
what is won may be given back after it is closed, by an event of its own (`charge.dispute.funds_reinstated`).

Source: docs.stripe.com/api/disputes/object (`status`, `balance_transactions`: "funds withdrawn and reinstated"),
docs.stripe.com/api/events/types (`charge.dispute.funds_reinstated`: "after a dispute is closed"), and of `prevented`
shopify.dev/changelog/adds-support-for-dispute-preventions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PREVENTED: Final = "prevented"
OVER: Final = frozenset({"won", "warning_closed", PREVENTED})


def sum_outstanding(dispute: Mapping[str, Any], currency: str) -> int:
    """What was taken for a dispute and not given back, in minor units; of another currency's movements, all of it.

    Raises: KeyError, TypeError, ValueError, AttributeError: it is not what Stripe calls one.
    """
    disputed_minor, moved = int(dispute["amount"]), dispute["balance_transactions"]
    taken_minor = -sum(int(each["amount"]) for each in moved)
    if taken_minor <= 0:
        return 0
    if any(each["currency"].upper() != currency for each in moved):
        return disputed_minor
    return min(taken_minor, disputed_minor)
