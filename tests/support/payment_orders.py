"""An order as the service gives one to a provider."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.chassis.values.ids import new_id
from services.chassis.values.money import Money
from services.transactions.providers.protocols import PaymentOrder
from tests.support.transactions import ACCOUNT, ROUTING_NUMBER


def an_order(account_number: str = f"{ACCOUNT}02", **more: Any) -> PaymentOrder:
    """The first attempt at a contribution."""
    reference = new_id("txn")
    order = PaymentOrder(
        key=f"txn:{reference}:1",
        reference=reference,
        payment_method="ACH",
        party_id="pty_1",
        bank_account_id=new_id("ba"),
        amount=Money(100_00, "USD"),
        is_inbound=True,
        presentment=1,
        routing_number=ROUTING_NUMBER,
        account_number=account_number,
        account_type="CHECKING",
        holder_type="PERSON",
        account_holder_name="Ada Investor",
        description="ESCROW DEPOSIT",
    )
    return replace(order, **more)
