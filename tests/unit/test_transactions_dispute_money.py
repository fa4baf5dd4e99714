"""What a dispute took and has not given back, by the movements of the balance that Stripe names with it."""

from __future__ import annotations

import pytest

from services.transactions.providers.stripe.disputes import sum_outstanding
from services.transactions.providers.stripe.states import read_payment


def a_dispute(*moved_minor: int, currency: str = "usd", status: str = "won"):
    moved = [{"amount": each, "currency": currency, "fee": 0} for each in moved_minor]
    return {"id": "du_1", "status": status, "reason": "general", "amount": 100_00, "balance_transactions": moved}


@pytest.mark.parametrize(
    ("moved_minor", "currency", "outstanding_minor"),
    [
        ((), "usd", 0),  # an inquiry
        ((-100_00,), "usd", 100_00),
        ((-100_00, 100_00), "usd", 0),
        ((-100_00, 30_00), "usd", 70_00),
        ((-100_00, 30_00, 70_00), "usd", 0),
        ((-100_00, 120_00), "usd", 0),  # more than was taken
        ((-130_00,), "usd", 100_00),  # more than is disputed
        ((-90_00,), "eur", 100_00),  # how much of the payment that is nobody says
        ((-90_00, 90_00), "eur", 0),
    ],
)
def test_a_dispute_is_over_without_loss_where_what_was_taken_was_given_back(moved_minor, currency, outstanding_minor):
    assert sum_outstanding(a_dispute(*moved_minor, currency=currency), "USD") == outstanding_minor


def test_a_dispute_that_says_nothing_of_its_money_is_none():
    with pytest.raises(KeyError):
        sum_outstanding({"amount": 100_00, "status": "won"}, "USD")


@pytest.mark.parametrize("status", ["won", "warning_closed", "prevented"])
@pytest.mark.parametrize(("moved_minor", "gone_minor"), [((-100_00,), 100_00), ((-100_00, 100_00), 0), ((), 0)])
def test_of_a_debit_what_a_dispute_took_is_gone_whatever_it_is_called_in_the_end(status, moved_minor, gone_minor):
    charge = {"amount": 100_00, "amount_captured": 100_00, "amount_refunded": 0, "currency": "usd"}
    intent = {"id": "pi_1", "status": "succeeded", "amount": 100_00, "amount_received": 100_00, "currency": "usd"}
    disputes = [a_dispute(*moved_minor, status=status)]
    payment = read_payment(intent | {"latest_charge": charge}, disputes, lambda _: False)
    assert payment.gone_minor == gone_minor
