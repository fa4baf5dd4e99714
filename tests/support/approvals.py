"""An approval that waits for two persons, and what is read of the gates in one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from realco.type.v1 import approval_pb2 as pb

from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.values.approval import VALIDITY, Approval, Status, hash_content
from services.chassis.values.money import Money
from services.chassis.values.session import NO_SESSION


def gates_of(approval: pb.Approval, which: str) -> list[str]:
    """The rules whose gate is `open`, or `shut`, in the order in which they are read."""
    said = [(each.rule, [(one.name, one.value) for one in each.operands]) for each in approval.explanations]
    return [rule for rule, operands in said if ("gate", which) in operands]


def effects_of(approval: pb.Approval) -> dict[str, tuple[int, int]]:
    """By kind of ledger account, in minor units: what is there now, and what would be."""
    return {each.ledger_account.kind: (each.before.amount_minor, each.after.amount_minor) for each in approval.effects}


# Releasing a hold posts nothing.
_NO_EFFECTS = {"RELEASE_HOLD"}


def check_dossiers(approvals: Approvals, found: Sequence[pb.Approval]) -> None:
    """Each kind of a service that moves money is found, and says what it would do to the book and at which gates."""
    with acting_as(Principal("admin-1", "admin", "org-1")):
        kinds = set(approvals.permissions.list_decidable_kinds()) & _list_moving()
    assert {each.kind for each in found} == kinds
    for each in found:
        changed = {effect.ledger_account.kind for effect in each.effects if effect.before != effect.after}
        assert changed or each.kind in _NO_EFFECTS, f"{each.kind} says nothing of the book"
        assert "ESCROW_ACTIVE" in [one.rule for one in each.explanations], f"{each.kind} says nothing of the gates"
        assert gates_of(each, "open"), f"{each.kind} says of no gate that it is open"
        assert not gates_of(each, "shut"), each.kind


def _list_moving() -> set[str]:
    """The kinds with an amount, as the page about them says."""
    table = (Path(__file__).parents[2] / "docs" / "approvals.md").read_text().partition("## The kinds of approvals")[2]
    rows = re.findall(r"^\| `([A-Z_]+)` \|(?:[^|]+\|){2} *([^|]*?) *\|$", table, re.MULTILINE)
    return {kind for kind, amount in rows if amount}


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WAITING = Approval(
    org_id="org-a",
    approval_id="apr_1",
    version=1,
    kind="CLOSE_OFFERING",
    summary="Close it",
    status=Status.PENDING,
    resource_id="off_1",
    scope_id=None,
    amount=Money(500, "USD"),
    text="{}",
    content_hash=hash_content("{}"),
    effect_hash="2" * 64,
    anew_hash="3" * 64,
    asked_etag=None,
    matter_hash="1" * 64,
    makers=frozenset({"ann"}),
    beneficiary_party_ids=frozenset({"pty_payee"}),
    created_by="ann",
    created_role="admin",
    session=NO_SESSION,
    created_at=NOW,
    expires_at=NOW + VALIDITY,
    updated_at=NOW,
    approvers_needed=2,
)
