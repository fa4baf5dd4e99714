"""Who said no before is told for as long as somebody may mean the same again, and no yes to less hides it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.values.approval import Approval, Approver, Status
from services.chassis.values.content import build_resource_content
from services.chassis.values.money import Money
from services.chassis.values.rejections import explain_rejections
from tests.support.approvals import NOW, WAITING


def build(number: int, minor: int = 500, note: str = "rent", reason: str = "It is large.") -> Approval:
    """A payment that waits, each one as a transaction of its own."""
    transaction = {"transactionId": f"txn_{number}", "partyId": "pty_1", "amountMinor": str(minor), "description": note}
    text = json.dumps(
        {
            "kind": "APPROVE_TRANSACTION",
            "resource": {"transaction": transaction, "approvalReason": reason},
            "changes": [],
            "preconditions": [],
        }
    )
    content = build_resource_content("APPROVE_TRANSACTION", f"txn_{number}", text)
    return replace(
        WAITING,
        approval_id=f"apr_{number}",
        kind="APPROVE_TRANSACTION",
        summary=f"Pay {minor}",
        resource_id=f"txn_{number}",
        amount=Money(minor, "USD"),
        text=text,
        content_hash=content.content_hash,
        effect_hash=content.effect_hash,
        anew_hash=content.anew_hash,
    )


def reject(approval: Approval, at: datetime = NOW, note: str = "Forged.") -> Approval:
    return replace(approval, status=Status.REJECTED, decided_by="ben", decided_at=at, note=note)


def approve(approval: Approval, at: datetime) -> Approval:
    yes = Approver("cleo", at)
    return replace(approval, status=Status.EXECUTED, approvers=(yes,), decided_by="cleo", decided_at=at)


def tell(
    waiting: Approval, rejected: list[Approval], living: list[Approval] | None = None, after: timedelta = timedelta(1)
) -> list[str]:
    told = explain_rejections(waiting, rejected, living or [], NOW + after)
    assert {each.rule for each in told} <= {"REJECTED_BEFORE"}
    return [each.statement for each in told]


@pytest.mark.parametrize(
    ("again", "what"),
    [
        (build(1), "just this"),
        (build(1, note="invoice 18"), "what does the same, with another content"),
        (build(2), "the same, as txn_1"),
        (build(2, note="invoice 18", reason="It is odd."), "the same, as txn_1"),
        (build(2, minor=501), "what is like it, of 5.00 USD, “Pay 500”"),
    ],
)
def test_a_no_says_what_it_was_about(again: Approval, what: str) -> None:
    said = f"ben said no at 2026-11-22T12:00:00Z, when ann asked for {what}: “Forged.”."
    assert tell(again, [reject(build(1))]) == [said]


@pytest.mark.parametrize(
    ("days", "again", "amount", "is_told"),
    [
        (29, build(2), Money(500, "USD"), True),
        (30, build(2), Money(500, "USD"), False),
        (30, build(2), None, True),  # what moves no money does not come again by itself
        (364, build(2), None, True),
        (365, build(2), None, False),
        (3650, build(1), Money(500, "USD"), True),  # of the same resource it is the same for good
        (30, build(1, minor=501), Money(501, "USD"), False),
    ],
)
def test_a_no_to_another_resource_is_told_for_a_time(
    days: int, again: Approval, amount: Money | None, is_told: bool
) -> None:
    again = replace(again, amount=amount)
    assert bool(tell(again, [reject(build(1))], after=timedelta(days=days))) is is_told


@pytest.mark.parametrize(
    ("approved", "is_told"),
    [
        (approve(build(2), NOW + timedelta(hours=1)), False),
        (approve(build(2, reason="It is odd."), NOW + timedelta(hours=1)), False),
        (approve(build(2), NOW - timedelta(hours=1)), True),  # the no came after it
        (approve(build(2, minor=1), NOW + timedelta(hours=1)), True),  # a cent
        (approve(build(2, note="invoice 18"), NOW + timedelta(hours=1)), True),  # and that was in other words
        (build(2), True),  # it waits
    ],
)
def test_the_last_decision_about_just_this_counts(approved: Approval, is_told: bool) -> None:
    assert bool(tell(build(3), [reject(build(1))], [approved])) is is_told


def test_a_no_after_a_yes_after_a_no_is_told_alone() -> None:
    noes = [reject(build(3), NOW + timedelta(hours=2), "Still."), reject(build(1))]
    [told] = tell(build(4), noes, [approve(build(2), NOW + timedelta(hours=1))])
    assert told.endswith("the same, as txn_3: “Still.”.")


@given(st.lists(st.booleans(), max_size=30))
def test_no_no_to_the_same_is_hidden_by_those_to_what_is_like_it(are_same: list[bool]) -> None:
    noes = [reject(build(number, minor=500 if same else 501)) for number, same in enumerate(are_same)]
    told = tell(build(99), noes)
    counted = int(told[10].rpartition(": ")[2].rstrip(".")) if len(told) > 10 else 0
    assert min(len(told), 10) + counted == len(noes)
    assert sum("the same, as" in each for each in told) == min(sum(are_same), 10)
