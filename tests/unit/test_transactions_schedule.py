"""When things are due."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from services.transactions.domain.schedule import backoff_ms, final_at, poll_ms, represent_at, return_risk_end, watch_ms


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("tries", "least", "most"), [
    (1, 250, 500),
    (2, 500, 1_000),
    (4, 2_000, 4_000),
    (5, 2_500, 5_000),
    (8, 2_500, 5_000),
    (9, 30_000, 60_000),  # no hiccup any more: an outage
    (10, 60_000, 120_000),
    (17, 7_680_000, 15_360_000),
    (18, 10_800_000, 21_600_000),  # six hours at most
    (10_000, 10_800_000, 21_600_000),
])  # fmt: skip
def test_back_off_doubles_to_its_cap_and_jitter_takes_up_to_half(tries: int, least: int, most: int) -> None:
    assert backoff_ms(tries, Fraction(0)) == least
    assert backoff_ms(tries, Fraction(1)) == most
    assert least <= backoff_ms(tries, Fraction(1, 3)) <= most


@pytest.mark.parametrize(("polls", "wait_ms"), [(0, 2_000), (1, 4_000), (3, 16_000), (4, 30_000), (900, 30_000)])
def test_payments_are_looked_up_ever_more_rarely(polls: int, wait_ms: int) -> None:
    assert poll_ms(polls) == wait_ms


@pytest.mark.parametrize(("looks", "wait_ms"), [(0, 60_000), (1, 120_000), (10, 61_440_000), (11, 86_400_000)])
def test_what_arrived_is_watched_from_once_a_minute_to_once_a_day(looks: int, wait_ms: int) -> None:
    assert watch_ms(looks) == wait_ms


@pytest.mark.parametrize(("returned", "again"), [
    ("2024-12-02T12:00", "2024-12-05T14:00"),  # Monday -> Thursday
    ("2024-12-05T23:59", "2024-12-10T14:00"),  # over a weekend
    ("2024-12-24T09:00", "2024-12-30T14:00"),  # Christmas is no banking day
])  # fmt: skip
def test_a_returned_debit_is_presented_again_on_the_third_banking_day(returned: str, again: str) -> None:
    assert represent_at(at(returned)) == at(again)


@pytest.mark.parametrize(("settled", "over"), [
    ("2024-12-02T12:00", "2024-12-09T12:00"),
    ("2024-12-26T08:30", "2025-01-03T08:30"),  # New Year's Day is no banking day
])  # fmt: skip
def test_the_return_risk_lasts_five_banking_days(settled: str, over: str) -> None:
    assert return_risk_end(at(settled)) == at(over)


@pytest.mark.parametrize(("method", "is_debit", "final"), [
    ("ACH", True, "2025-01-31T12:00"),  # sixty days
    ("CHECK", True, "2025-01-31T12:00"),
    ("WIRE", True, "2024-12-02T12:00"),
    ("ACH", False, "2024-12-04T12:00"),  # two banking days
])  # fmt: skip
def test_finality_depends_on_the_rail_and_the_direction(method: str, is_debit: bool, final: str) -> None:
    assert final_at(at("2024-12-02T12:00"), method=method, is_debit=is_debit) == at(final)
