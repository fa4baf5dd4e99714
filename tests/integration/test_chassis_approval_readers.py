"""Who is told of an approval: whoever may read what it is about, and nobody else; every kind, role and credential."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from itertools import product
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from realco.approvals.v1 import approvals_pb2 as pb
from realco.type.v1 import access_pb2

from services.chassis.approvals import records
from services.chassis.approvals.service import APPROVALS_SERVICE, ApprovalsServicer
from services.chassis.calls.approval_kinds import name_kind
from services.chassis.calls.auth import Principal, SignedInKey, acting_as
from services.chassis.calls.serving import servers_of
from services.chassis.data.operations import Operations
from services.chassis.values.approval import Approval, Status
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import DomainError
from services.chassis.values.etags import etag_of
from services.chassis.values.ids import new_id
from tests.support.access_matrix import METHODS, access_of, four_eyes_of, scope_of
from tests.support.approvals import NOW, WAITING
from tests.support.identity import SCOPES
from tests.support.persons import Persons

ORG = "org-1"
GET = APPROVALS_SERVICE.methods_by_name["GetApproval"]
NEVER_THERE = "APPROVAL_NOT_FOUND"
EVIDENCE = "Hit on a list, 99 %."


def list_kinds(service: str) -> dict[str, MethodDescriptor]:
    """The kinds of a service, each with the RPC that its contract names: read here by the options alone."""
    found = {}
    for method in METHODS:
        four_eyes, package = four_eyes_of(method), method.full_name.split(".")[1]
        if package == service and (four_eyes.two_persons or four_eyes.waits):
            kind = four_eyes.waits or name_kind(method.input_type.name)
            [reads] = [
                each
                for each in METHODS
                if each.full_name == f"realco.{service}.v1.{four_eyes.read_with}".replace("/", ".")
            ]
            found[kind] = reads
    return found


def list_credentials(reads: MethodDescriptor) -> Mapping[str, frozenset[str] | None]:
    """By what somebody signed in, and the scopes of an API key."""
    own, inbox = scope_of(reads), scope_of(GET)
    return {
        "a person": None,
        "a key for this alone": frozenset({inbox, own}),
        "a key with all other scopes": frozenset(SCOPES) - {own},
        "a key for the inbox alone": frozenset({inbox}),
    }


def list_roles(method: MethodDescriptor) -> set[str]:
    return {access_pb2.Access.Role.Name(role).lower() for role in access_of(method).roles}


def list_cells(kinds: Mapping[str, MethodDescriptor]) -> Iterator[tuple[str, str, str, Principal, bool]]:
    """Kind, role, credential, who that is, and whether the contract lets them read what it is about."""
    for (kind, reads), role in product(kinds.items(), sorted(list_roles(GET))):
        for title, scopes in list_credentials(reads).items():
            key = None if scopes is None else SignedInKey("key_1", scopes, "1")
            may = role in list_roles(reads) and (scopes is None or scope_of(reads) in scopes)
            yield kind, role, title, Principal(f"{role}-1", role, ORG, api_key=key), may


class Desk:
    """The inbox of one service, in which one of each kind was rejected: whoever tries anything changes nothing."""

    def __init__(self, database: Any, service: str) -> None:
        operations = _Bare(database, FakeClock(NOW))
        approvals = import_module(f"services.{service}.approvals").build_approvals(operations)
        self.database = database
        self.servicer = ApprovalsServicer(operations, approvals, Persons())

    async def keep(self, kind: str) -> Approval:
        asked = replace(WAITING, org_id=ORG, approval_id=new_id("apr"), kind=kind)
        no = {"status": Status.REJECTED, "decided_by": "bob", "decided_at": NOW, "note": EVIDENCE}
        rejected = replace(asked, version=2, **no)
        with acting_as(Principal("ann", "admin", ORG)):
            async with self.database.begin() as tx:
                await records.insert_approvals(tx, [asked])
                await records.save_approval(tx, rejected)
        return rejected

    async def list_ids(self, **filters: Any) -> list[str]:
        answer = await self.servicer.ListApprovals(pb.ListApprovalsRequest(page_size=1000, **filters), None)
        return [each.approval_id for each in answer.approvals]

    async def answer_of_each(self, approval_id: str, content_hash: str, etag: str) -> list[str]:
        """What the caller is answered by every way to the approval with this id."""
        known = {"approval_id": approval_id, "etag": etag}
        decided = {**known, "idempotency_key": new_id("key")}
        calls = [
            self.servicer.GetApproval(pb.GetApprovalRequest(approval_id=approval_id), None),
            self.servicer.CommentApproval(pb.CommentApprovalRequest(**known, text="Why?"), None),
            self.servicer.CancelApproval(pb.CancelApprovalRequest(**known), None),
            self.servicer.RejectApproval(pb.RejectApprovalRequest(**decided, note="No."), None),
            self.servicer.ApproveApproval(
                pb.ApproveApprovalRequest(**decided | {"idempotency_key": new_id("key")}, content_hash=content_hash),
                None,
            ),
        ]
        return [await _outcome_of(call) for call in calls]


class _Bare(Operations):
    """What a service is made of, as far as its approvals are only read."""

    def __getattr__(self, name: str) -> Any:
        return _Anything()


class _Anything:
    def __getattr__(self, name: str) -> Any:
        return self


async def _outcome_of(call: Awaitable[Any]) -> str:
    try:
        return (await call).note
    except DomainError as refusal:
        return refusal.reason


@pytest.mark.parametrize("service", servers_of(APPROVALS_SERVICE))
async def test_an_approval_is_there_for_whoever_may_read_what_it_is_about_and_for_nobody_else(
    service_database: Callable[[str], Awaitable[Any]], service: str
) -> None:
    desk, kinds, leaks = Desk(await service_database(service), service), list_kinds(service), []
    kept = {kind: await desk.keep(kind) for kind in kinds}
    assert kept
    for kind, role, title, principal, may in list_cells(kinds):
        approval = kept[kind]
        known = (approval.content_hash, etag_of(approval.approval_id, approval.version))
        with acting_as(principal):
            answers = await desk.answer_of_each(approval.approval_id, *known)
            lists = [
                await desk.list_ids(),
                await desk.list_ids(kind=[kind]),
                await desk.list_ids(ids=[approval.approval_id]),
            ]
        is_told = [answer != NEVER_THERE for answer in answers] + [approval.approval_id in ids for ids in lists]
        if set(is_told) != {may} or (answers[0] == EVIDENCE) is not may:
            leaks.append((kind, role, title, answers, is_told))
    assert leaks == []
    with acting_as(Principal("admin-1", "admin", ORG)):
        assert set(await desk.answer_of_each(new_id("apr"), "0" * 64, etag_of("apr_1", 1))) == {NEVER_THERE}


@pytest.mark.parametrize(
    ("kind", "service"),
    [("REVIEW_COMPLIANCE_CHECK", "compliance"), ("APPROVE_API_KEY", "compliance"), ("REPLAY_WEBHOOK", "transactions")],
)
def test_a_sponsor_is_among_those_who_are_not_told(kind: str, service: str) -> None:
    """So the matrix has cells of both kinds."""
    assert "sponsor" in list_roles(GET) - list_roles(list_kinds(service)[kind])
