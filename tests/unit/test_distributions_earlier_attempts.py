"""However often a party has its refund sent elsewhere and ends that, a person's no is still read."""

from __future__ import annotations

from datetime import UTC, datetime

from services.chassis.values.failure import Failure
from services.distributions.domain.explanations import explain_earlier_attempts
from services.distributions.domain.investment import Investment

NOW = datetime(2026, 12, 1, tzinfo=UTC)
REJECTED = Failure("REJECTED", "Not the investor's account.")
RETURNED = Failure("RETURNED_BY_BANK", "R03")
ENDED = [Failure("CANCELLED_BY_INVESTOR", f"the {number}th time") for number in range(80)]
INVESTMENT = Investment(
    investment_id="inv_1",
    offering_id="off_1",
    party_id="inv-001",
    currency="USD",
    amount_minor=100,
    created_by="inv-001",
    created_at=NOW,
    updated_at=NOW,
)


def test_an_investment_keeps_the_last_failure_of_each_code() -> None:
    investment = INVESTMENT
    for why in (REJECTED, RETURNED, *ENDED):
        investment = investment.with_refund_failure(why).with_refund_failure(None)
    assert investment.earlier_refund_failures == (ENDED[-1], RETURNED, REJECTED)


def test_whoever_decides_reads_the_last_failure_of_each_code_beside_the_newest() -> None:
    attempts = list(enumerate([REJECTED, RETURNED, *ENDED], start=1))
    [told] = explain_earlier_attempts(attempts)
    assert "81 attempts did. The last 50 are told, and the last of each kind." in told.statement
    assert told.operands[:2] == (
        ("attempt 1", "REJECTED, Not the investor's account."),
        ("attempt 2", "RETURNED_BY_BANK, R03"),
    )
    assert len(told.operands) == 52
