"""What persons said about a movement of money, as a table: whether it may move by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.chassis.values.approval import VALIDITY
from services.chassis.values.session import Session, Standing
from services.compliance.domain.statements import (
    DONE_BY_LAST_YES,
    Act,
    Statement,
    Subject,
    find_decision,
    find_lapsed,
)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECT, OTHER = Subject("a" * 64, "1" * 64), Subject("b" * 64, "2" * 64)
ACTS = {"ask": Act.REQUEST, "yes": Act.APPROVAL, "execute": Act.EXECUTION, "withdraw": Act.WITHDRAWAL}


def read(story: str, subject: Subject = SUBJECT) -> list[Statement]:
    """One statement for each word, a minute apart: `ask:ann`, or `ask-other:ann` about something else."""
    return list(_read(story, subject))


def _read(story: str, subject: Subject) -> Iterator[Statement]:
    for minutes, word in enumerate(story.split()):
        what, _, person = word.partition(":")
        act, said_at = ACTS[what.removesuffix("-other")], BEGIN + timedelta(minutes=minutes)
        about = OTHER if "-other" in what else subject
        said = Statement(act, person, said_at, said_at + VALIDITY, Session(int(said_at.timestamp())), subject=about)
        if act is Act.REQUEST:
            said = replace(said, makers=frozenset({person}), beneficiary_party_ids=frozenset({"pty_gains"}))
        yield replace(said, subject=Subject()) if act is Act.WITHDRAWAL else said


@pytest.mark.parametrize(
    ("story", "approved", "executed"),
    [
        ("", False, False),
        ("ask:ann", False, False),
        ("ask:ann execute:cat", False, False),
        ("ask:ann yes:bob", True, False),  # nobody executed it
        ("ask:ann yes:bob execute:cat", True, True),
        ("ask:ann yes:bob execute:ann", True, True),  # who made it executes it, too
        ("ask:ann yes:bob execute:bob", True, True),  # and so does who approved it
        ("ask:ann execute:cat yes:bob", True, False),  # first it is approved, then it is executed
        ("ask:ann execute:cat yes:bob execute:cat", True, True),
        ("ask:ann yes:bob execute-other:cat", True, False),
        ("ask:ann yes:bob execute-other:cat execute:cat", True, True),
        ("ask:ann yes:bob execute:cat ask:ann", True, True),  # the same is asked for again
        ("ask:ann yes:bob execute:cat ask-other:ann", False, False),
        ("ask:ann yes:bob execute:cat ask-other:ann ask:ann", False, False),
        ("ask:ann yes:bob execute:cat ask-other:ann ask:ann yes:bob", True, False),
        ("ask:ann yes:bob execute:cat withdraw:ann", False, False),
        ("ask:ann yes:bob execute:cat withdraw:ann ask:ann yes:bob", True, False),
        ("ask:ann yes:bob withdraw:ann execute:cat", False, False),
        ("ask:ann yes:ann execute:cat", False, False),  # nobody approves what they made
        ("execute:cat", False, False),
    ],
)
def test_money_moves_once_it_was_asked_for_approved_and_executed_in_this_order(
    story: str, approved: bool, executed: bool
) -> None:
    said, now = read(story), BEGIN + timedelta(hours=1)
    decided = [find_decision(said, SUBJECT, now, (), executed=wanted) is not None for wanted in (False, True)]
    assert decided == [approved, executed]


@pytest.mark.parametrize(
    ("story", "needed", "executed"),
    [
        ("ask:ann yes:bob execute:cat", 2, False),
        ("ask:ann yes:bob yes:dan execute:cat", 2, True),
        ("ask:ann yes:bob execute:cat yes:dan", 2, False),  # executed before enough had approved it
        ("ask:ann yes:bob execute:cat yes:dan execute:cat", 2, True),
    ],
)
def test_it_is_executed_after_as_many_approved_it_as_the_rules_want(story: str, needed: int, executed: bool) -> None:
    said = [replace(each, approvers_needed=needed if each.act is Act.REQUEST else 1) for each in read(story)]
    decision = find_decision(said, SUBJECT, BEGIN + timedelta(hours=1), (), executed=True)
    assert (decision is not None) == executed


@pytest.mark.parametrize(
    ("who", "standing", "executed"),
    [
        ("cat", Standing(), True),
        ("cat", Standing(sessions_ended_at=BEGIN + timedelta(hours=1)), False),
        ("bob", Standing(sessions_ended_at=BEGIN + timedelta(hours=1)), False),
        ("cat", Standing(parties=frozenset({"pty_gains"})), True),  # whoever gains from it may execute it
        ("bob", Standing(parties=frozenset({"pty_gains"})), False),
        ("ann", Standing(sessions_ended_at=BEGIN - timedelta(seconds=1)), True),
        ("ann", Standing(sessions_ended_at=BEGIN + timedelta(hours=1)), False),
        ("ann", Standing(api_key_revoked=True), False),
        ("ann", Standing(parties=frozenset({"pty_gains"})), True),  # and ask for it
    ],
)
def test_what_was_said_in_a_session_that_was_ended_counts_no_longer(
    who: str, standing: Standing, executed: bool
) -> None:
    said = read("ask:ann yes:bob execute:cat")
    lapsed = find_lapsed({each: standing if each.person_id == who else Standing() for each in said})
    decision = find_decision(said, SUBJECT, BEGIN + timedelta(hours=2), lapsed, executed=True)
    assert (decision is not None) == executed
    assert {each.person_id for each in lapsed} == (set() if executed else {who})


def test_who_executed_it_too_and_counts_no_longer_is_one_of_two_who_did() -> None:
    said = read("ask:ann yes:bob execute:bob execute:cat")
    lapsed = said[3:]
    assert find_decision(said, SUBJECT, BEGIN + timedelta(hours=1), lapsed, executed=True) is not None
    assert find_decision(said[:2] + said[3:], SUBJECT, BEGIN + timedelta(hours=1), lapsed, executed=True) is None


def test_what_was_executed_is_good_as_long_as_what_was_approved() -> None:
    said, approved_at = read("ask:ann yes:bob execute:cat"), BEGIN + timedelta(minutes=1)
    for now, good in ((approved_at + VALIDITY - timedelta(seconds=1), True), (approved_at + VALIDITY, False)):
        assert (find_decision(said, SUBJECT, now, (), executed=True) is not None) == good


def test_any_kind_is_executed_by_a_person_unless_it_is_written_down_that_the_last_yes_does_it() -> None:
    assert sorted(DONE_BY_LAST_YES) == ["CLOSE_OFFERING"]
