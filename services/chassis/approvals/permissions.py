"""Which approvals the caller may read and decide: as the contracts say it of what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from realco.approvals.v1 import approvals_pb2

from services.chassis.approvals.requests import RequestKind
from services.chassis.approvals.resources import ResourceKind
from services.chassis.calls.access import Rule, find_rpc, rule_of
from services.chassis.calls.approval_kinds import list_approval_kinds
from services.chassis.calls.auth import current_principal
from services.chassis.values.approval import Approval
from services.chassis.values.approval_bounds import find_met_bound

_APPROVE = find_rpc(approvals_pb2.ApproveApprovalRequest)


class Permissions:
    """Of the current caller, in one service.

    Args:
        requests: The calls that a person only asks for, by kind.
        resources: What waits by itself, by kind.
    """

    def __init__(self, requests: Mapping[str, RequestKind[Any]], resources: Mapping[str, ResourceKind]) -> None:
        self._requests = requests
        self._resources = resources

    def may_read(self, kind: str) -> bool:
        """Whoever may not read what it is about is told nothing of the approval, not even that there is one."""
        return rule_of(list_approval_kinds()[kind]).admits(current_principal())

    def list_readable_kinds(self) -> list[str]:
        return [kind for kind in (*self._requests, *self._resources) if self.may_read(kind)]

    def rule_of(self, kind: str) -> Rule:
        """Whoever may not do it may not approve it either."""
        resource = self._resources.get(kind)
        if resource is None:
            return rule_of(find_rpc(self._requests[kind].request_type))
        return rule_of(resource.approvals.rpc or _APPROVE)

    def list_decidable_kinds(self) -> list[str]:
        """The kinds that the caller may decide, if somebody else made it."""
        principal = current_principal()
        if not rule_of(_APPROVE).admits(principal):
            return []
        return [kind for kind in self.list_readable_kinds() if self.rule_of(kind).admits(principal)]

    def list_actions(self, approval: Approval, now: datetime) -> list[str]:
        """What the caller may do with it, as far as rows can tell: for whom a checker acts is asked at the decision."""
        principal = current_principal()
        if not approval.is_open_at(now) or not rule_of(_APPROVE).admits(principal):
            return []
        decisions = self._list_decisions(approval, principal.person)
        return decisions if find_met_bound(approval, principal.person) else [*decisions, "comment"]

    def must_be_decided(self, approval: Approval) -> bool:
        """It waits until somebody decides: nobody takes it back."""
        resource = self._resources.get(approval.kind)
        return resource is not None and resource.approvals.must_be_decided

    def _list_decisions(self, approval: Approval, person: str) -> list[str]:
        if person in approval.makers:
            return [] if self.must_be_decided(approval) else ["cancel"]
        if approval.kind not in self.list_decidable_kinds():
            return []
        said_yes = any(each.approved_by == person for each in approval.approvers)
        return ["reject"] if said_yes else ["approve", "reject"]
