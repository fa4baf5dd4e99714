"""Sweeps: when one is explained, what a person is called for, and whose that is which a failed one had left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.chassis.values.money import Money
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.sweep_readings import Reading, believe, explain, find_contradiction, is_overdue
from services.transactions.domain.sweeps import (
    AMOUNT_MAX,
    Explanation,
    KeptLine,
    KnownSweep,
    LineKind,
    OwnLine,
    ProviderLine,
    ProviderSweep,
    SweepLine,
    SweepStatus,
    list_contradicted,
    list_first_owners,
    split_failed,
)
from services.transactions.jobs.read_sweeps import _choose_since
from services.transactions.store.feed_cursors import Cursor

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


def test_a_sweep_whose_lines_are_not_those_that_are_kept_is_not_explained_though_they_add_up() -> None:
    assert explain(None, SWEEP, [line(100_00)], NOW, is_contradicted=True) is W.UNEXPLAINED


READING = Reading(
    feed="test",
    provider="some",
    theirs=SWEEP,
    known=None,
    lines=None,
    destination_before=None,
    explanation=W.EXPLAINED,
    is_overdue=False,
)
FAILED, REDIRECTED = ExceptionKind.SWEEP_FAILED, ExceptionKind.SWEEP_REDIRECTED
UNEXPLAINED, OVERDUE = ExceptionKind.SWEEP_NOT_EXPLAINED, ExceptionKind.SWEEP_OVERDUE


@pytest.mark.parametrize(
    ("known", "status", "changes", "own_before", "told"),
    [
        (None, S.PENDING, {}, None, []),
        (None, S.PENDING, {"destination_before": "ba_1"}, None, []),
        (None, S.PENDING, {"destination_before": "ba_2"}, None, [(REDIRECTED, True)]),
        (None, S.PENDING, {"destination_before": "ba_1"}, "ba_2", [(REDIRECTED, True)]),
        (KNOWN, S.SETTLED, {"destination_before": "ba_2"}, None, [(REDIRECTED, False)]),  # told when it was new
        (None, S.FAILED, {}, None, [(FAILED, True)]),
        (KNOWN, S.FAILED, {}, None, [(FAILED, True)]),
        (replace(KNOWN, status=S.FAILED), S.FAILED, {}, None, [(FAILED, False)]),
        (None, S.PENDING, {"explanation": W.UNEXPLAINED}, None, [(UNEXPLAINED, True)]),
        (replace(KNOWN, explanation=W.WAITING), S.SETTLED, {"explanation": W.UNEXPLAINED}, None, [(UNEXPLAINED, True)]),
        (
            replace(KNOWN, explanation=W.UNEXPLAINED),
            S.SETTLED,
            {"explanation": W.UNEXPLAINED},
            None,
            [(UNEXPLAINED, False)],
        ),
        (None, S.PENDING, {"explanation": W.WAITING}, None, []),
        (None, S.PENDING, {"is_overdue": True}, None, [(OVERDUE, True)]),
        (replace(KNOWN, is_overdue=True), S.PENDING, {"is_overdue": True}, None, [(OVERDUE, False)]),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said_at_each_reading_and_is_new_once(
    known, status, changes, own_before, told
) -> None:
    reading = replace(READING, known=known, theirs=replace(SWEEP, status=status), **changes)
    assert [(each.kind, each.is_new) for each in reading.list_troubles("org", own_before)] == told


@pytest.mark.parametrize(
    ("lines", "contradicted", "says"),
    [
        (None, {}, "does not say of which movements"),
        ([line(99_00)], {}, "1.00"),
        ([line(99_00)], {"org": {"txn_2", "txn_1"}}, "of txn_1, txn_2."),
        ([line(100_00)], {"other": {"txn_1"}}, "not yours"),  # which they are is none of its business
    ],
)
def test_whoever_hears_that_a_sweep_is_not_explained_reads_of_its_own_lines_alone(lines, contradicted, says) -> None:
    reading = replace(READING, explanation=W.UNEXPLAINED, lines=lines, contradicted=contradicted)
    [told] = reading.list_troubles("org")
    assert says in told.cause


@pytest.mark.parametrize(
    ("known", "status", "explanation", "ended"),
    [
        (KNOWN, S.SETTLED, W.EXPLAINED, []),
        (replace(KNOWN, explanation=W.UNEXPLAINED), S.SETTLED, W.EXPLAINED, [UNEXPLAINED]),
        (replace(KNOWN, is_overdue=True), S.SETTLED, W.EXPLAINED, [OVERDUE]),
        (replace(KNOWN, is_overdue=True), S.PENDING, W.EXPLAINED, []),
        (None, S.FAILED, W.EXPLAINED, [UNEXPLAINED, OVERDUE]),  # what was told of it nobody knows any more
    ],
)
def test_what_is_not_wrong_any_more_is_said(known, status, explanation, ended) -> None:
    reading = replace(READING, known=known, theirs=replace(SWEEP, status=status), explanation=explanation)
    assert [kind for kind, _ in reading.list_ended()] == ended


@pytest.mark.parametrize(
    ("known", "status", "arrives_days", "made_days", "verdict"),
    [
        (None, S.PENDING, -4, -6, False),
        (None, S.PENDING, -5, -6, True),
        (None, S.SETTLED, -5, -6, False),
        (None, S.PENDING, 300, -29, False),
        (None, S.PENDING, 300, -30, True),  # put off again and again
        (replace(KNOWN, is_overdue=True), S.PENDING, 3, -1, True),
        (replace(KNOWN, is_overdue=True), S.FAILED, 3, -1, False),
    ],
)
def test_a_sweep_is_overdue_once_it_is_on_its_way_longer_than_any_takes(
    known, status, arrives_days, made_days, verdict
) -> None:
    arrives_at, made_at = NOW + timedelta(days=arrives_days), NOW + timedelta(days=made_days)
    theirs = replace(SWEEP, status=status, arrives_at=arrives_at, made_at=made_at)
    assert is_overdue(known, theirs, NOW) is verdict


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


def test_that_a_sweep_failed_is_believed_whatever_else_is_said_otherwise() -> None:
    said = replace(SWEEP, status=S.FAILED, amount=Money(1, "EUR"), destination="ba_2", failure_code="account_closed")
    assert believe(KNOWN, said) == replace(SWEEP, status=S.FAILED, failure_code="account_closed")
    assert believe(replace(KNOWN, status=S.FAILED), replace(said, status=S.SETTLED)).status is S.FAILED
    assert believe(None, said) == said


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


def keep(owner: str, net_minor: int, sweep_id: str = "po_1", **changes: object) -> KeptLine:
    kept = SweepLine(
        sweep_line_id="swl_1",
        sweep_id="swp_1",
        provider="some",
        provider_movement_id="txn_1",
        kind=LineKind.PAYMENT,
        gross_minor=net_minor,
        fee_minor=0,
        net_minor=net_minor,
        currency="USD",
        created_at=NOW,
    )
    return KeptLine(owner, sweep_id, replace(kept, **changes))


@pytest.mark.parametrize(
    ("failed_sweep_id", "kept", "shares"),
    [
        ("", [], {}),
        ("", [keep("a", 100)], {"a": 100}),
        ("", [keep("a", 60)], {"a": 100}),  # and that it is more by now is told
        ("po_0", [keep("operator", 100)], {"operator": 100}),  # nobody could split it then
        ("po_0", [keep("a", 60), keep("b", 40)], {"a": 60, "b": 40}),
        ("po_0", [keep("a", 60)], {}),  # a crash came between
    ],
)
def test_whoever_had_a_movement_first_keeps_it(failed_sweep_id, kept, shares) -> None:
    found = list_first_owners(replace(line(100), failed_sweep_id=failed_sweep_id), kept)
    assert {owner: own.line.net_minor for owner, own in found.items()} == shares


@pytest.mark.parametrize(
    ("kept", "contradicted"),
    [
        ([keep("a", 100)], {}),
        ([keep("a", 99)], {"a": {"txn_1"}}),
        ([keep("a", 100, kind=LineKind.REFUND)], {"a": {"txn_1"}}),
        ([keep("a", 100, "po_0")], {"a": {"txn_1"}}),  # it is in another sweep as well
        ([keep("b", 7, provider_movement_id="txn_2")], {"b": {"txn_2"}}),  # it is in the sweep no more
    ],
)
def test_what_the_provider_says_otherwise_than_what_is_kept_is_found(kept, contradicted) -> None:
    assert list_contradicted({"a": [OwnLine(line(100), None)]}, kept, "po_1") == contradicted


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
