"""The policy by which the approvals of a service are decided: read at boot, and known to each of its transactions.

The file APPROVAL_POLICY_FILE is JSON, and one file serves all services; `ApprovalPolicy` says what it may hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from pydantic import TypeAdapter

from services.chassis.calls.approval_kinds import list_approval_kinds
from services.chassis.calls.auth import current_principal, is_organization
from services.chassis.data.transaction import Tx
from services.chassis.process.settings import ConfigurationError, read_json_file
from services.chassis.values.approval_policy import NO_POLICY, ApprovalPolicy, ApprovalRule, ApprovalTerms, decide_terms
from services.chassis.values.money import Money

_SETTING = "APPROVAL_POLICY_FILE"
_ON_CONNECTION = "realco_approval_policy"


def read_policy(path: Path | None) -> ApprovalPolicy:
    """The policy of a file; where there is none, the one without a rule.

    Raises:
        ConfigurationError: it cannot be read, or says something else than rules.
    """
    if path is None:
        return NO_POLICY
    policy = read_json_file(path, _SETTING, TypeAdapter(ApprovalPolicy))
    if wrong := [name for name in policy.organizations if not is_organization(name)]:
        raise ConfigurationError(f"{_SETTING}: {path.name}: {wrong[0]!r} is no name of an organization")
    named = {kind for rule in _list_all_rules(policy) for kind in rule.kinds or ()}
    if unknown := sorted(named - list_approval_kinds().keys()):
        raise ConfigurationError(f"{_SETTING}: {path.name}: {unknown[0]} is no kind of approval")
    return policy


def _list_all_rules(policy: ApprovalPolicy) -> Iterable[ApprovalRule]:
    return chain(policy.all_organizations, *policy.organizations.values())


def bind_policy(connection: Tx, policy: ApprovalPolicy) -> None:
    """The approvals of the connection's transactions are decided by this policy."""
    connection.info[_ON_CONNECTION] = policy


def policy_of(tx: Tx) -> ApprovalPolicy:
    """By what the service whose transaction this is decides."""
    policy: ApprovalPolicy = tx.info[_ON_CONNECTION]
    return policy


def decide_terms_of(tx: Tx, kind: str, *amounts: Money | None) -> ApprovalTerms:
    """What an approval of the caller's organization needs by now."""
    found = [amount for amount in amounts if amount is not None]
    return decide_terms(policy_of(tx), current_principal().org_id, kind, found)
