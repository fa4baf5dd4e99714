"""When things are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.transactions.domain.rails import RAILS
from services.transactions.domain.schedule import (
    compute_final_at,
    compute_next_look,
    compute_poll_ms,
    compute_represent_at,
    compute_return_risk_end,
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("polls", "wait_ms"), [(0, 2_000), (1, 4_000), (3, 16_000), (4, 30_000), (900, 30_000)])
def test_payments_are_looked_up_ever_more_rarely(polls: int, wait_ms: int) -> None:
    assert compute_poll_ms(polls) == wait_ms


@pytest.mark.parametrize(("method", "looked", "again"), [
    ("ACH", "2024-12-02T12:00", "2024-12-02T12:01"),  # as it arrives
    ("ACH", "2024-12-02T12:30", "2024-12-02T13:00"),  # for as long as it has been here
    ("ACH", "2024-12-05T12:00", "2024-12-06T12:00"),  # a day at most
    ("ACH", "2024-12-09T11:00", "2024-12-09T12:00"),  # and when the return risk is over
    ("ACH", "2025-01-31T11:00", "2025-01-31T12:00"),  # and when it is final
    ("ACH", "2025-01-31T12:00", "2025-02-01T12:00"),
    ("CHECK", "2024-12-02T12:00", "2024-12-09T12:00"),  # nobody can be asked in between
    ("CHECK", "2024-12-09T12:00", "2025-01-31T12:00"),
])  # fmt: skip
def test_what_arrived_is_looked_at_ever_more_rarely_and_when_a_time_is_over(
    method: str, looked: str, again: str
) -> None:
    risk_end, final = at("2024-12-09T12:00"), at("2025-01-31T12:00")
    found = compute_next_look(at(looked), RAILS[method], at("2024-12-02T12:00"), risk_end, final)
    assert found == at(again)


@pytest.mark.parametrize(("returned", "again"), [
    ("2024-12-02T12:00", "2024-12-05T14:00"),  # Monday -> Thursday
    ("2024-12-05T23:59", "2024-12-10T14:00"),  # over a weekend
    ("2024-12-24T09:00", "2024-12-30T14:00"),  # Christmas is no banking day
])  # fmt: skip
def test_a_returned_debit_is_presented_again_on_the_third_banking_day(returned: str, again: str) -> None:
    assert compute_represent_at(at(returned)) == at(again)


@pytest.mark.parametrize(("settled", "over"), [
    ("2024-12-02T12:00", "2024-12-09T12:00"),
    ("2024-12-26T08:30", "2025-01-03T08:30"),  # New Year's Day is no banking day
])  # fmt: skip
def test_the_return_risk_lasts_five_banking_days_and_that_of_a_card_thirty_days(settled: str, over: str) -> None:
    assert compute_return_risk_end(at(settled), RAILS["ACH"], is_inbound=True) == at(over)
    assert compute_return_risk_end(at(settled), RAILS["ACH"], is_inbound=False) is None
    assert compute_return_risk_end(at(settled), RAILS["CARD"], is_inbound=True) == at(settled) + timedelta(days=30)
    assert compute_return_risk_end(at(settled), RAILS["WIRE"], is_inbound=True) is None


@pytest.mark.parametrize(("method", "is_inbound", "final"), [
    ("ACH", True, "2025-02-04T00:00"),  # sixty days, which end on a Friday, and the banking day after that
    ("CHECK", True, "2025-02-04T00:00"),
    ("CARD", True, "2025-04-01T12:00"),  # a hundred and twenty days
    ("WIRE", True, "2024-12-02T12:00"),
    ("ACH", False, "2024-12-05T00:00"),  # two banking days
])  # fmt: skip
def test_finality_depends_on_the_rail_and_the_direction(method: str, is_inbound: bool, final: str) -> None:
    assert compute_final_at(at("2024-12-02T12:00"), RAILS[method], is_inbound=is_inbound) == at(final)
