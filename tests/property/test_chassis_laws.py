"""Laws of the pure floor, for every input hypothesis can think of."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import sqlalchemy as sa
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from realco.escrow.v1 import holds_pb2 as pb

from services.chassis.data.paging import Page
from services.chassis.values import ids
from services.chassis.values.calendar import add_banking_days, is_banking_day
from services.chassis.values.money import allocate

amounts = st.integers(-(2**62), 2**62)
names = st.text("abzé0_", min_size=1, max_size=4)
weights = st.dictionaries(names, st.integers(0, 10**12) | st.fractions(0, 10**6), min_size=1, max_size=12)
# A slow machine breaks no law.
law = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@law
@given(amounts, weights)
def test_allocation_conserves_the_amount(amount, weights):
    assume(any(weights.values()))
    shares = allocate(amount, weights)
    assert sum(shares.values()) == amount
    assert list(shares) == list(weights)


@law
@given(amounts, weights)
def test_no_share_is_a_whole_cent_from_exact(amount, weights):
    total = sum(map(Fraction, weights.values()))
    assume(total > 0)
    for key, share in allocate(amount, weights).items():
        assert abs(share - Fraction(amount) * Fraction(weights[key]) / total) < 1


@law
@given(amounts, weights, st.randoms())
def test_the_order_of_the_weights_changes_nothing(amount, weights, random):
    assume(any(weights.values()))
    keys = list(weights)
    random.shuffle(keys)
    assert allocate(amount, {key: weights[key] for key in keys}) == allocate(amount, weights)


@law
@given(amounts, weights, st.fractions(Fraction(1, 1000), 1000))
def test_only_the_proportions_of_the_weights_count(amount, weights, factor):
    assume(any(weights.values()))
    scaled = {key: Fraction(weight) * factor for key, weight in weights.items()}
    assert allocate(amount, scaled) == allocate(amount, weights)


@law
@given(amounts, weights)
def test_a_larger_weight_never_gets_less(amount, weights):
    assume(any(weights.values()))
    shares = allocate(abs(amount), weights)
    by_weight = sorted(weights, key=lambda key: weights[key])
    for smaller, larger in itertools.pairwise(by_weight):
        if weights[smaller] < weights[larger]:
            assert shares[smaller] <= shares[larger]


@law
@given(st.lists(st.lists(st.text(), min_size=1, max_size=4), min_size=2, max_size=2))
def test_different_parts_have_different_derived_ids(parts):
    first, second = parts
    assert (ids.derived_id("je", *first) == ids.derived_id("je", *second)) is (first == second)


@law
@given(st.dates(date(2020, 1, 1), date(2030, 1, 1)), st.integers(1, 60))
def test_banking_days_are_walked_both_ways(day, n):
    assume(is_banking_day(day))
    later = add_banking_days(day, n)
    assert is_banking_day(later)
    assert later >= day + timedelta(days=n)
    assert add_banking_days(later, -n) == day


@law
@given(
    st.datetimes(timezones=st.just(UTC)), st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=30)
)
def test_a_page_token_carries_its_key_exactly(moment: datetime, name: str):
    columns = [sa.column("created_at", sa.TIMESTAMP(timezone=True)), sa.column("id", sa.Text)]
    first = Page.of(pb.ListHoldsRequest(escrow_account_id="esc_1", page_size=1))
    token = first.cut([(moment, name), (moment, name)], lambda row: row).next_page_token
    second = Page.of(pb.ListHoldsRequest(escrow_account_id="esc_1", page_size=7, page_token=token))
    assert second.beside == (moment, name)
    assert second.of_query(sa.select(*columns), columns) is not None
