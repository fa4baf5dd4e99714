"""What may move under the limits, as a table an officer can read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.chassis.values.money import Money
from services.compliance.domain.clearance import Check, checks_at, list_missing, list_required_types
from services.compliance.domain.limits import Limit, LimitType, first_breach, window_start

NOW = datetime(2024, 12, 10, 15, 30, tzinfo=UTC)
PER, DAY, MONTH = LimitType.PER_TRANSACTION, LimitType.DAILY_DEPOSIT, LimitType.MONTHLY_DEPOSIT
SEEDED = [Limit(PER, 250_000_00, "USD"), Limit(DAY, 50_000_00, "USD"), Limit(MONTH, 500_000_00, "USD")]


@pytest.mark.parametrize(
    ("used_today", "used_month", "requested", "breached"),
    [
        (0, 0, 50_000_00, None),  # exactly the day's limit
        (0, 0, 50_000_01, DAY),  # one cent too many
        (40_000_00, 40_000_00, 10_000_00, None),
        (40_000_00, 40_000_00, 10_000_01, DAY),
        (0, 460_000_00, 40_000_00, None),  # exactly the month's limit
        (0, 460_000_00, 40_000_01, MONTH),
        (0, 0, 250_000_01, PER),  # the narrowest limit is named first
        (50_000_00, 50_000_00, 1, DAY),
    ],
)
def test_a_party_brings_in_what_the_limits_leave_and_no_more(used_today, used_month, requested, breached):
    breach = first_breach(SEEDED, {DAY: used_today, MONTH: used_month}, requested, NOW)
    assert (breach.limit.limit_type if breach else None) == breached


def test_a_refusal_shows_its_working_to_the_cent():
    breach = first_breach(SEEDED, {DAY: 1_000_00}, 60_000_00, NOW)
    assert breach is not None
    assert breach.working == (
        "daily deposit limit 50,000.00 USD: 1,000.00 USD used since 2024-12-10"
        " + 60,000.00 USD requested = 61,000.00 USD, 11,000.00 USD too much"
    )
    assert breach.refuse().metadata["remaining_minor"] == "4900000"
    assert (breach.explanation.statement, breach.explanation.rule) == (breach.working, "DAILY_DEPOSIT")
    assert breach.explanation.operands == (
        ("limit", Money(50_000_00, "USD")),
        ("used since 2024-12-10", Money(1_000_00, "USD")),
        ("requested", Money(60_000_00, "USD")),
        ("remaining", Money(49_000_00, "USD")),
    )


def test_a_refusal_is_told_in_the_units_of_its_currency():
    breach = first_breach([Limit(PER, 4_000_000, "JPY")], {}, 5_000_000, NOW)
    assert breach is not None
    assert breach.working.endswith("+ 5,000,000 JPY requested = 5,000,000 JPY, 1,000,000 JPY too much")
    assert "window_start_time" not in breach.refuse().metadata, "it is of no day and of no month"


@pytest.mark.parametrize(
    ("limit_type", "start"),
    [(PER, None), (DAY, datetime(2024, 12, 10, tzinfo=UTC)), (MONTH, datetime(2024, 12, 1, tzinfo=UTC))],
)
def test_windows_are_calendar_days_and_months_of_utc(limit_type, start):
    assert window_start(limit_type, NOW) == start


@pytest.mark.parametrize(
    ("otherwise", "what_is_missing"),
    [
        ({}, ()),
        ({"KYC": None}, ("KYC is PENDING",)),
        ({"KYC": Check("PASSED", NOW)}, ("KYC is EXPIRED",)),  # from its very instant
        ({"KYC": Check("PASSED", datetime(2024, 12, 10, 15, 31, tzinfo=UTC))}, ()),
        (
            {"KYC": Check("MANUAL_REVIEW", None), "OFAC": Check("ERROR", None)},
            ("KYC is MANUAL_REVIEW", "OFAC is ERROR"),
        ),
        ({"OFAC": Check("FAILED", None)}, ("OFAC is FAILED",)),
    ],
)
def test_only_passed_and_fresh_checks_clear_a_party(otherwise, what_is_missing):
    all_of_them = dict.fromkeys(list_required_types(), Check("PASSED", None)) | otherwise
    checks = {name: check for name, check in all_of_them.items() if check}
    assert tuple(one.statement for one in list_missing(checks_at(checks, NOW))) == what_is_missing
