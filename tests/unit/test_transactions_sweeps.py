"""Sweeps: when one is explained, what a person is called for, and whose that is which a failed one had left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.chassis.values.money import Money
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.sweeps import (
    AMOUNT_MAX,
    Explanation,
    KnownSweep,
    LineKind,
    ProviderLine,
    ProviderSweep,
    SweepStatus,
    explain,
    find_contradiction,
    find_troubles,
    name_before,
    split_failed,
)
from services.transactions.jobs.read_sweeps import _choose_since
from services.transactions.store.event_cursors import Cursor

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
S, W = SweepStatus, Explanation
SWEEP = ProviderSweep("po_1", S.PENDING, Money(100_00, "USD"), NOW + timedelta(days=1), NOW, "ba_1", is_listed=True)
KNOWN = KnownSweep(
    feed="test",
    provider_sweep_id="po_1",
    provider="some",
    amount_minor=100_00,
    currency="USD",
    status=S.SETTLED,
    arrives_at=NOW,
    made_at=NOW,
    destination="ba_1",
    explanation=W.EXPLAINED,
    version=1,
)


def line(net_minor: int, fee_minor: int = 0) -> ProviderLine:
    return ProviderLine("txn_1", LineKind.PAYMENT, net_minor + fee_minor, fee_minor, net_minor)


@pytest.mark.parametrize(
    ("known", "status", "days", "lines", "verdict"),
    [
        (None, S.PENDING, 1, [line(60_00, 90), line(40_00)], W.EXPLAINED),
        (None, S.PENDING, 1, [line(60_00), line(40_01)], W.WAITING),  # a cent too many; more may come
        (None, S.PENDING, 1, None, W.WAITING),
        (None, S.PENDING, 0, [line(99_99)], W.UNEXPLAINED),  # it should have arrived
        (None, S.SETTLED, 1, [], W.UNEXPLAINED),
        (None, S.FAILED, 1, None, W.UNEXPLAINED),
        (W.EXPLAINED, S.FAILED, 1, None, W.EXPLAINED),  # its lines are known
        (W.UNEXPLAINED, S.PENDING, 1, None, W.UNEXPLAINED),  # who was called is not called off
        (W.UNEXPLAINED, S.SETTLED, 1, [line(100_00)], W.EXPLAINED),
    ],
)
def test_a_sweep_is_explained_once_its_lines_add_up_and_unexplained_once_it_is_late(
    known, status, days, lines, verdict
) -> None:
    theirs = replace(SWEEP, status=status, arrives_at=NOW + timedelta(days=days))
    before = None if known is None else replace(KNOWN, explanation=known)
    assert explain(before, theirs, lines, NOW) is verdict


@pytest.mark.parametrize(
    ("known", "changes", "explanation", "before", "told"),
    [
        (None, {}, W.EXPLAINED, None, []),
        (None, {}, W.EXPLAINED, "ba_1", []),
        (None, {}, W.EXPLAINED, "ba_2", [ExceptionKind.SWEEP_REDIRECTED]),
        (KNOWN, {}, W.EXPLAINED, "ba_2", []),  # it was told when it was new
        (None, {"status": S.FAILED}, W.EXPLAINED, None, [ExceptionKind.SWEEP_FAILED]),
        (KNOWN, {"status": S.FAILED}, W.EXPLAINED, None, [ExceptionKind.SWEEP_FAILED]),
        (replace(KNOWN, status=S.FAILED), {"status": S.FAILED}, W.EXPLAINED, None, []),
        (None, {}, W.UNEXPLAINED, None, [ExceptionKind.SWEEP_NOT_EXPLAINED]),
        (replace(KNOWN, explanation=W.WAITING), {}, W.UNEXPLAINED, None, [ExceptionKind.SWEEP_NOT_EXPLAINED]),
        (replace(KNOWN, explanation=W.UNEXPLAINED), {}, W.UNEXPLAINED, None, []),
        (None, {}, W.WAITING, None, []),
    ],
)
def test_a_person_is_called_once_for_each_thing(known, changes, explanation, before, told) -> None:
    found = find_troubles(known, replace(SWEEP, **changes), None, explanation, before)
    assert [each.kind for each in found] == told


@pytest.mark.parametrize(
    ("was", "changes", "says"),
    [
        (S.PENDING, {"status": S.SETTLED}, ""),
        (S.PENDING, {"status": S.FAILED}, ""),
        (S.SETTLED, {"status": S.FAILED}, ""),
        (S.SETTLED, {"status": S.SETTLED, "arrives_at": NOW + timedelta(days=9)}, ""),
        (S.SETTLED, {"status": S.PENDING}, "was SETTLED"),
        (S.FAILED, {"status": S.SETTLED}, "was FAILED"),
        (S.PENDING, {"amount": Money(100_01, "USD")}, "another amount"),
        (S.PENDING, {"amount": Money(100_00, "EUR")}, "another amount"),
        (S.PENDING, {"destination": "ba_2"}, "another bank account"),
    ],
)
def test_what_does_not_change_is_told_where_it_does(was, changes, says) -> None:
    found = find_contradiction(replace(KNOWN, status=was), replace(SWEEP, **changes))
    assert (says in found, bool(found)) == (True, bool(says))
    assert find_contradiction(None, replace(SWEEP, **changes)) == ""


@pytest.mark.parametrize(
    ("net_minor", "parts", "rest_of", "shares"),
    [
        (100, {"a": 60, "b": 40}, None, {"a": 60, "b": 40}),
        (100, {"a": 60}, None, {"a": 60, None: 40}),
        (100, {"a": 60, "operator": 30}, "operator", {"a": 60, "operator": 40}),
        (100, {"a": 120}, None, {"a": 120, None: -20}),
        (100, {}, None, {None: 100}),
    ],
)
def test_what_a_failed_sweep_had_left_is_split_to_the_cent(net_minor, parts, rest_of, shares) -> None:
    found = split_failed(line(net_minor), parts, rest_of)
    assert {owner: each.net_minor for owner, each in found.items()} == shares
    assert sum(each.net_minor for each in found.values()) == net_minor


@pytest.mark.parametrize(
    "amounts", [(100, 1, 100), (AMOUNT_MAX + 1, 0, AMOUNT_MAX + 1), (0, -AMOUNT_MAX - 1, AMOUNT_MAX + 1)]
)
def test_a_movement_that_does_not_add_up_or_is_no_amount_is_none(amounts) -> None:
    with pytest.raises(ValueError, match=r"amount|less its fee"):
        ProviderLine("txn_1", LineKind.PAYMENT, *amounts)


def test_the_bank_account_before_is_that_of_the_same_currency() -> None:
    def made(number: int, currency: str, destination: str) -> ProviderSweep:
        amount, made_at = Money(1, currency), NOW + timedelta(hours=number)
        return replace(SWEEP, sweep_id=f"po_{number}", amount=amount, made_at=made_at, destination=destination)

    sweeps = [made(3, "USD", "ba_9"), made(1, "USD", "ba_1"), made(2, "EUR", "ba_2"), made(4, "EUR", "ba_2")]
    assert name_before(sweeps) == {"po_3": "ba_1", "po_4": "ba_2"}


@pytest.mark.parametrize(
    ("last", "days"),
    [
        (None, 90),
        ("", 90),
        (NOW.isoformat(), 30),
        ((NOW - timedelta(days=100)).isoformat(), 130),
        ("0001-01-01T00:00:00+00:00", 430),  # whatever a provider says of when one was made
    ],
)
def test_sweeps_are_listed_from_a_while_before_the_last_one_on(last, days) -> None:
    assert _choose_since(Cursor(last, 1), NOW) == NOW - timedelta(days=days)
