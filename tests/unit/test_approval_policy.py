"""How many persons approve what: what the rules of an organization say, and who says the yeses that they want."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.chassis.data.approval_policy import read_policy
from services.chassis.process.settings import ConfigurationError
from services.chassis.values.approval import (
    VALIDITY,
    AlreadyApproved,
    Approval,
    ApprovalExpired,
    ApprovalFacts,
    Approver,
    Status,
    add_yes,
)
from services.chassis.values.approval_policy import NO_POLICY, ApprovalPolicy, ApprovalTerms, decide_terms
from services.chassis.values.money import Money
from services.chassis.values.refusals import MakerIsChecker
from services.chassis.values.second_person import BeneficiaryIsChecker
from services.chassis.values.session import Identity, Standing
from tests.support.approvals import NOW, WAITING

ORG, OTHER_ORG = "org-a", "org-b"
CLOSE, KYC = "CLOSE_OFFERING", "REVIEW_COMPLIANCE_CHECK"
POLICY = ApprovalPolicy.model_validate(
    {
        "all_organizations": [
            {"currency_code": "USD", "amount_minor_from": 100_000_00, "approvers_needed": 2, "valid_for_hours": 48},
            {"kinds": [KYC], "strong_sign_in_seconds_max": 300},
        ],
        "organizations": {
            ORG: [
                {"kinds": [CLOSE], "currency_code": "USD", "amount_minor_from": 1_000_000_00, "approvers_needed": 3},
                {"kinds": [CLOSE, KYC], "valid_for_hours": 72, "strong_sign_in_seconds_max": 600},
                {"approvers_needed": 1},
            ]
        },
    }
)


def terms(approvers: int = 1, hours: int | None = None, seconds: int | None = None) -> ApprovalTerms:
    return ApprovalTerms(approvers, VALIDITY if hours is None else timedelta(hours=hours), seconds)


def usd(minor: int) -> Money:
    return Money(minor, "USD")


@pytest.mark.parametrize(
    ("org_id", "kind", "amounts", "wanted"),
    [
        (OTHER_ORG, CLOSE, [], terms()),
        (OTHER_ORG, CLOSE, [usd(99_999_99)], terms()),
        (OTHER_ORG, CLOSE, [usd(100_000_00)], terms(2, 48)),
        (OTHER_ORG, CLOSE, [Money(100_000_00, "EUR")], terms()),  # an amount of another currency says nothing
        (OTHER_ORG, CLOSE, [Money(1, "EUR"), usd(100_000_00)], terms(2, 48)),
        (OTHER_ORG, CLOSE, [usd(9_000_000_00)], terms(2, 48)),
        (OTHER_ORG, KYC, [], terms(1, None, 300)),
        (ORG, "CAPTURE_HOLD", [], terms()),
        (ORG, "CAPTURE_HOLD", [usd(1_000_000_00)], terms(2, 48)),  # its own rules take none of those of all away
        (ORG, CLOSE, [], terms(1, 72, 600)),
        (ORG, CLOSE, [usd(100_000_00)], terms(2, 48, 600)),
        (ORG, CLOSE, [usd(1_000_000_00)], terms(3, 48, 600)),  # of each kind the strictest
        (ORG, KYC, [], terms(1, 72, 300)),
    ],
)
def test_of_the_rules_that_match_the_strictest_of_each_kind_counts(
    org_id: str, kind: str, amounts: list[Money], wanted: ApprovalTerms
) -> None:
    assert decide_terms(POLICY, org_id, kind, amounts) == wanted


def test_without_rules_one_other_person_decides_within_seven_days() -> None:
    assert decide_terms(NO_POLICY, ORG, CLOSE, [usd(9_000_000_00)]) == terms() == ApprovalTerms(1, timedelta(days=7))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("rules", "Invalid JSON"),
        ({"rules": []}, "rules: Extra inputs"),
        ({"all_organizations": [{"approvers": 2}]}, "all_organizations.0.approvers: Extra inputs"),
        (
            {"all_organizations": [{"approvers_needed": 0}]},
            "approvers_needed: Input should be greater",
        ),
        ({"all_organizations": [{"approvers_needed": 6}]}, "approvers_needed: Input should be less"),
        (
            {"all_organizations": [{"valid_for_hours": 169}]},
            "valid_for_hours: Input should be less",
        ),
        ({"all_organizations": [{"kinds": []}]}, "kinds: "),
        ({"organizations": {ORG: [{"kinds": [CLOSE, "CLOSE_OFERING"]}]}}, "CLOSE_OFERING is no kind of approval"),
        ({"all_organizations": [{"amount_minor_from": 5}]}, "currency_code and amount_minor_from stand there both"),
        ({"all_organizations": [{"currency_code": "USD"}]}, "currency_code and amount_minor_from stand there both"),
        ({"all_organizations": [{"currency_code": "usd", "amount_minor_from": 5}]}, "usd is no currency"),
        ({"organizations": {"*": []}}, "'*' is no name of an organization"),
    ],
    ids=str,
)
def test_what_is_no_policy_is_refused_and_said_where(tmp_path: Path, document: Any, said: str) -> None:
    file = tmp_path / "rules.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(ConfigurationError) as refused:
        read_policy(file)
    assert str(refused.value).startswith("APPROVAL_POLICY_FILE: rules.json: ")
    assert said in str(refused.value)


# --- who says yes ---


def say_yes(approval: Approval, person: str, needed: int = 2, note: str | None = None, **changes: Any) -> Approval:
    asked = {"now": NOW, "parties": (), **changes}
    facts = ApprovalFacts({Identity(person): Standing(frozenset(asked["parties"]))})
    return add_yes(approval, Approver(person, asked["now"]), facts, needed, note)


def test_it_is_approved_by_the_last_yes_that_it_needs_and_the_notes_of_the_others_are_comments() -> None:
    first = say_yes(WAITING, "bob", note="The numbers are right.")
    assert (first.status, first.decided_by, first.note) == (Status.PENDING, None, None)
    assert [(each.created_by, each.text) for each in first.comments] == [("bob", "The numbers are right.")]
    last = say_yes(first, "cat", note="So they are.")
    assert (last.status, last.decided_by, last.note) == (Status.APPROVED, "cat", "So they are.")
    assert [each.approved_by for each in last.approvers] == ["bob", "cat"]


@pytest.mark.parametrize(
    ("when_asked", "now", "wanted"),
    [(1, 1, Status.APPROVED), (2, 1, Status.PENDING), (1, 2, Status.PENDING), (2, 2, Status.PENDING)],
)
def test_the_more_that_the_rules_want_or_wanted_when_it_was_asked_for_counts(
    when_asked: int, now: int, wanted: Status
) -> None:
    said = say_yes(replace(WAITING, approvers_needed=when_asked), "bob", needed=now)
    assert (said.status, said.approvers_needed) == (wanted, max(when_asked, now))


@pytest.mark.parametrize(
    ("refused", "attempt"),
    [
        (AlreadyApproved, lambda: say_yes(say_yes(WAITING, "bob"), "bob")),
        (MakerIsChecker, lambda: say_yes(say_yes(WAITING, "bob"), "ann")),
        (BeneficiaryIsChecker, lambda: say_yes(say_yes(WAITING, "bob"), "cat", parties=("pty_payee",))),
        (ApprovalExpired, lambda: say_yes(say_yes(WAITING, "bob"), "cat", now=NOW + VALIDITY)),
    ],
    ids=["the same person again", "a maker", "who gains from it", "too late"],
)
def test_every_yes_is_of_another_person_who_may_say_it(refused: type[Exception], attempt: Callable[[], object]) -> None:
    with pytest.raises(refused):
        attempt()
