"""Money is exact, and an allocation loses no cent."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from realco.type.v1 import money_pb2

from services.chassis.calls.wire import to_explanation, to_money
from services.chassis.values.explanation import Explanation, read_explanation, write_explanation
from services.chassis.values.money import Money, allocate, spell_money


@pytest.mark.parametrize(
    ("amount", "weights", "shares"),
    [
        (100, {"a": 1, "b": 1, "c": 1}, {"a": 34, "b": 33, "c": 33}),  # the odd cent to the smaller id
        (100, {"c": 1, "b": 1, "a": 1}, {"a": 34, "b": 33, "c": 33}),  # whatever the order
        (100, {"a": 1, "b": 2}, {"a": 33, "b": 67}),  # the larger remainder first
        (1, {"z": 3, "a": 1}, {"z": 1, "a": 0}),
        (5, {"a": 0, "b": 1}, {"a": 0, "b": 5}),  # no weight, no cent
        (0, {"a": 0, "b": 0}, {"a": 0, "b": 0}),  # nothing to split needs no weight
        (-100, {"a": 1, "b": 1, "c": 1}, {"a": -34, "b": -33, "c": -33}),  # a claw-back mirrors the payment
        (10, {"a": Fraction(1, 3), "b": Fraction(2, 3)}, {"a": 3, "b": 7}),
        (2, {"B": 1, "a": 1, "é": 1}, {"B": 1, "a": 1, "é": 0}),  # byte order: B < a < é
        (2**62, {"a": 2**62, "b": 1}, {"a": 2**62 - 1, "b": 1}),  # no float anywhere
    ],
)
def test_an_amount_is_split_in_proportion_to_the_cent(amount, weights, shares):
    assert allocate(amount, weights) == shares


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": Fraction(-1, 2)}])
def test_an_amount_without_a_positive_weight_is_refused(weights):
    with pytest.raises(ValueError, match="weight"):
        allocate(1, weights)


@pytest.mark.parametrize(
    ("amount", "currency", "error"),
    [
        (1.0, "USD", TypeError),
        (True, "USD", TypeError),
        ("1", "USD", TypeError),
        (1, "usd", ValueError),
        (1, "USDT", ValueError),
        (1, "", ValueError),
        (1, "ÜSD", ValueError),
        (1, "QQQ", ValueError),
        (1, "XAU", ValueError),
    ],
)
def test_what_is_no_money_is_refused(amount, currency, error):
    with pytest.raises(error):
        Money(amount, currency)


def test_two_currencies_never_meet():
    dollars, euros = Money(1, "USD"), Money(1, "EUR")
    for operation in (Money.__add__, Money.__sub__, Money.__lt__, Money.__le__):
        with pytest.raises(ValueError, match="currency mismatch"):
            operation(dollars, euros)


def test_money_adds_compares_and_travels():
    assert Money(1, "USD") + Money(2, "USD") == Money(3, "USD")
    assert Money(1, "USD") - Money(2, "USD") == -Money(1, "USD")
    assert Money(1, "USD") < Money(2, "USD") <= Money(2, "USD")
    assert Money.from_proto(to_money(Money(-5, "USD"))) == Money(-5, "USD")
    assert to_money(Money(5, "USD")) == money_pb2.Money(currency_code="USD", amount_minor=5)


@pytest.mark.parametrize(
    ("amount", "currency", "spelled"),
    [
        (12_100_000, "USD", "121,000.00 USD"),
        (5, "USD", "0.05 USD"),
        (-7, "USD", "-0.07 USD"),
        (0, "EUR", "0.00 EUR"),
        (5_000_000, "JPY", "5,000,000 JPY"),  # the yen has no parts
        (-1_500, "KWD", "-1.500 KWD"),  # a dinar has a thousand fils
        (2**62, "USD", "46,116,860,184,273,879.04 USD"),
    ],
)
def test_an_amount_is_spelled_in_the_units_of_its_currency(amount, currency, spelled):
    assert (spell_money(amount, currency), str(Money(amount, currency))) == (spelled, spelled)


def test_what_is_explained_with_money_says_it_in_words_and_exactly_and_is_kept_so():
    explanation = Explanation("It is little.", "LIMIT", (("used", Money(5, "USD")), ("since", "2026")), "house rule")
    assert read_explanation(json.loads(json.dumps(write_explanation(explanation)))) == explanation
    used, since = to_explanation(explanation).operands
    assert (used.value, used.amount, since.value) == ("0.05 USD", to_money(Money(5, "USD")), "2026")
    assert not since.HasField("amount")
