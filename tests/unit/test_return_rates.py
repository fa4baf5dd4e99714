"""Return rates: what counts, what is allowed, and from how many on it says anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.transactions.domain.return_rates import LIMITS, Outcome, Rate, RateKind, Tally
from services.transactions.domain.returns import RETURN_CODES

K = RateKind
NOW = datetime(2024, 12, 2, tzinfo=UTC)


@pytest.mark.parametrize(("kind", "returns", "debits", "rate_bps", "is_exceeded"), [
    (K.UNAUTHORIZED, 0, 0, 0, False),
    (K.UNAUTHORIZED, 3, 600, 50, False),  # just what is allowed
    (K.UNAUTHORIZED, 3, 599, 51, True),
    (K.UNAUTHORIZED, 2, 10, 2_000, False),  # too few to say anything
    (K.ADMINISTRATIVE, 3, 100, 300, False),
    (K.ADMINISTRATIVE, 4, 100, 400, True),
    (K.OVERALL, 15, 100, 1_500, False),
    (K.OVERALL, 16, 100, 1_600, True),
    (K.OVERALL, 3, 0, 0, True),  # all of them were originated before
])  # fmt: skip
def test_a_rate_is_exceeded_above_its_limit_and_by_three_returns_at_least(
    kind: RateKind, returns: int, debits: int, rate_bps: int, *, is_exceeded: bool
) -> None:
    rate = Rate(kind, returns, debits)
    assert (rate.rate_bps, rate.is_exceeded) == (rate_bps, is_exceeded)


@pytest.mark.parametrize(("code", "kinds"), [
    *((code, {K.UNAUTHORIZED, K.OVERALL}) for code in ("R05", "R07", "R10", "R11", "R29", "R51")),
    *((code, {K.ADMINISTRATIVE, K.OVERALL}) for code in ("R02", "R03", "R04")),
    ("R01", {K.OVERALL}),
    ("R16", {K.OVERALL}),
    ("", {K.OVERALL}),  # a provider that says no code
])  # fmt: skip
def test_a_return_counts_in_the_rates_that_its_code_belongs_to(code: str, kinds: set[RateKind]) -> None:
    tally = Tally()
    tally.add_returns([(code, NOW)])
    assert {kind for kind, count in tally.returns.items() if count} == kinds == set(tally.newest)


def test_what_no_bank_has_seen_is_no_debit() -> None:
    tally = Tally()
    tally.add_debits([None, Outcome.RETURNED, Outcome.FAILED, Outcome.CANCELLED])
    assert tally.debit_count == 2


def test_the_newest_return_of_each_kind_is_known_in_whatever_order_they_are_counted() -> None:
    tally = Tally()
    tally.add_returns([("R10", NOW), ("R01", NOW + timedelta(days=1)), ("R10", NOW - timedelta(days=1))])
    assert tally.newest == {K.UNAUTHORIZED: NOW, K.OVERALL: NOW + timedelta(days=1)}


def test_the_codes_of_the_limits_are_codes_that_we_know() -> None:
    assert {code for each in LIMITS.values() for code in each.codes or ()} <= set(RETURN_CODES)


def test_a_rate_says_in_words_what_was_counted_and_what_is_allowed() -> None:
    assert Rate(K.UNAUTHORIZED, 4, 500).spell() == (
        "4 of 500 debits of 60 days came back as not authorized: 0.5 % are allowed."
    )
