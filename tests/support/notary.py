"""Who speaks to the notary: persons who ask, approve and execute, and the services that tell it and ask it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from realco.compliance.v1 import notary_pb2 as pb

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.compliance.api import NotaryServicer
from tests.support.compliance import CHECKER, MAKER, ORG, ComplianceHarness, build_dependencies
from tests.support.money import usd

HASH, OTHER_HASH = "a" * 64, "b" * 64
ANN, BOB = "pty_" + "0" * 25 + "1", "pty_" + "0" * 25 + "2"
ACCOUNT, OTHER_ACCOUNT = "esc_" + "0" * 25 + "1", "esc_" + "0" * 25 + "2"
THIRD = Principal("admin-3", "admin", ORG)
# The same person, as another account of the same issuer knows it.
MAKER_AGAIN = Principal("admin-1-laptop", "admin", ORG, known_as=MAKER.person)


def movement(account: str = ACCOUNT, **parts: int) -> pb.Movement:
    lines = [
        pb.Movement.Line(party_id={"ann": ANN, "bob": BOB}[name], amount=usd(minor)) for name, minor in parts.items()
    ]
    return pb.Movement(escrow_account_id=account, lines=lines)


WHOLE = movement(ann=60, bob=40)
TWICE = movement(ann=60, bob=40)
TWICE.lines.append(TWICE.lines[0])


class Desk:
    """The notary, and who speaks to it about one resource: of a kind that the last yes does, or of another one."""

    def __init__(self, harness: ComplianceHarness, kind: str) -> None:
        self.kind = kind
        self.harness = harness
        self.notary = NotaryServicer(build_dependencies(harness.database, harness.clock))
        self.resource_id = new_id("dist")

    def fill(self, values: dict[str, Any]) -> dict[str, Any]:
        """The fields of a request about all that moves, unless `values` say otherwise."""
        moved = pb.Movement(
            kind=values.pop("kind", self.kind),
            resource_id=values.pop("resource_id", self.resource_id),
            content_hash=values.pop("content_hash", HASH),
        )
        moved.MergeFrom(values.pop("movement", WHOLE))
        return {"movement": moved, **values}

    async def ask(self, person: Principal = MAKER, **values: Any) -> None:
        request = pb.RecordRequestRequest(**self.fill(values))
        with acting_as(person):
            await self.notary.RecordRequest(request, None)

    async def approve(self, person: Principal = CHECKER, **values: Any) -> str:
        """The reason of the refusal, or nothing."""
        request = pb.RecordApprovalRequest(**self.fill(values))
        with acting_as(person):
            try:
                await self.notary.RecordApproval(request, None)
            except DomainError as refusal:
                return refusal.reason
        return ""

    async def execute(self, person: Principal = THIRD, **values: Any) -> str:
        """The reason of the refusal, or nothing."""
        request = pb.RecordExecutionRequest(**self.fill(values))
        with acting_as(person):
            try:
                await self.notary.RecordExecution(request, None)
            except DomainError as refusal:
                return refusal.reason
        return ""

    async def take_back(self, *, after_refusal: bool = True, of_approved: bool = False, token: str = "third's") -> str:
        """The reason of the refusal, or nothing.

        Args:
            token: That of the person for whom it is taken back; empty where the service says it alone.
        """
        request = pb.RecordWithdrawalRequest(kind=self.kind, resource_id=self.resource_id)
        request.after_refusal, request.of_approved = after_refusal, of_approved
        with acting_as(replace(service_principal("distributions", ORG, THIRD.person), token=token)):
            try:
                await self.notary.RecordWithdrawal(request, None)
            except DomainError as refusal:
                return refusal.reason
        return ""

    def wait(self) -> None:
        """Until what was just decided has been begun, or was not."""
        self.harness.clock.advance(timedelta(seconds=61))

    async def check(self, org: str = ORG, **values: Any) -> tuple[str, ...] | str:
        """Who decided; or the reason why it is not decided."""
        with acting_as(service_principal("escrow", org)):
            try:
                found = await self.notary.CheckMovement(pb.CheckMovementRequest(**self.fill(values)), None)
            except DomainError as refusal:
                return refusal.reason
        return found.requested_by, *found.approved_by

    async def refuse(self) -> tuple[list[str], str]:
        """Who does not count, and in words why."""
        request = pb.CheckMovementRequest(**self.fill({}))
        with acting_as(service_principal("escrow", ORG)), pytest.raises(DomainError) as refused:
            await self.notary.CheckMovement(request, None)
        return json.loads(refused.value.metadata["person_ids"]), refused.value.message
