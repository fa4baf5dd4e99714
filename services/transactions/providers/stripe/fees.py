"""What Stripe keeps for itself: each movement of the balance there (a balance transaction) says the fee taken with it.

A platform that Stripe bills each month has fees of nothing there. Source: docs.stripe.com/api/balance_transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from services.chassis.process.telemetry import log

# Of a charge, as it is to be asked for: what it brought, and what took that away again.
EXPANDED: Final = ("balance_transaction", "failure_balance_transaction")


def sum_fees(currency: str, charge: Mapping[str, Any], disputes: Iterable[Mapping[str, Any]] = ()) -> int | None:
    """The fees of a charge, or of a refund, and of its disputes, in minor units; None where Stripe tells none yet.

    What was given back of them counts against them. Of another currency than the payment's they are in no book of ours.

    Raises: KeyError, TypeError, ValueError: it is not what Stripe calls one.
    """
    told = [found for name in EXPANDED if isinstance(found := charge.get(name), Mapping)]
    told += [found for dispute in disputes for found in dispute.get("balance_transactions") or ()]
    if any(each["currency"].upper() != currency for each in told):
        log.error("provider_fee_in_other_currency", provider="stripe", charge_id=str(charge.get("id")))
        return None
    return max(0, sum(int(each["fee"]) for each in told)) if told else None
