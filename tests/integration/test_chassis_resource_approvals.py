"""What waits by itself for a second person goes on by its own route or by the inbox, whichever a person uses."""

from __future__ import annotations

import dataclasses
import json

import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2 as pb
from realco.escrow.v1 import events_pb2, holds_pb2
from realco.type.v1 import approval_pb2

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.resources import ResourceApprovals, ResourceKind
from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.approvals.workflow import Approvals
from services.chassis.approvals.writer import ApprovalWriter
from services.chassis.calls.access import find_rpc
from services.chassis.calls.auth import acting_as, current_principal
from services.chassis.data.operations import Operations
from services.chassis.data.seals import NotSealed
from services.chassis.values.approval import (
    VALIDITY,
    ApprovalDetails,
    ApprovalExpired,
    ApprovalNotFound,
    Change,
    hash_content,
)
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import PermissionDenied
from services.chassis.values.money import Money
from services.chassis.values.refusals import IllegalStatusChange, MakerIsChecker
from services.chassis.values.second_person import BeneficiaryIsChecker
from services.chassis.values.session import Standing
from tests.support import chassis

MAKER = chassis.ADMIN
CHECKER = dataclasses.replace(MAKER, subject="admin-2")
PAYEE = "pty_payee"
S = approval_pb2.Approval
HOLD = "hold_1"


class Desk:
    """Holds that wait: a note says what became of each, and in whose name."""

    def __init__(self, database, rpc: str | None = None):
        self.database = database
        self.clock = FakeClock(chassis.NOW)
        self.parties: frozenset[str] = frozenset()
        events = ApprovalWriter(events_pb2.ApprovalRequested, events_pb2.ApprovalUpdated)
        self.waiting = ResourceApprovals("RELEASE_HOLD", events, rpc)
        kind = ResourceKind(self.waiting, self.describe, self.approve_by_inbox, self.end)
        self.operations = Operations(database, self.clock)
        self.approvals = Approvals(self.operations, [], events, [kind])
        self.service = ApprovalsServicer(self.operations, self.approvals, self)
        self.jobs = {job.name: job for job in build_approval_jobs("escrow", self.operations, self.approvals)}

    async def list_current(self, principal) -> frozenset[str]:
        return self.parties

    list_interests = list_current

    async def list_standings(self, persons) -> dict[str, Standing]:
        return {each: Standing(self.parties) for each in persons}

    async def describe(self, approval, now) -> ApprovalDetails:
        gaining, changes = approval.beneficiary_party_ids, (Change("status", "WAITS", "GOES"),)
        return ApprovalDetails("A hold", approval.resource_id, beneficiary_party_ids=gaining, changes=changes)

    async def approve_by_inbox(self, tx, approval, facts, now) -> None:
        await self.approve(tx, facts, now, approval.note)

    async def approve(self, tx, facts, now, note=None) -> None:
        await self.waiting.count_yes(tx, HOLD, facts, now, note)
        await chassis.add_note(tx, f"approved by {current_principal().person}")

    async def end(self, tx, approval, why, now) -> None:
        await chassis.add_note(tx, f"ended: {why}")
        await self.waiting.cancel(tx, approval.resource_id, now)

    async def begin(self, hold_id=HOLD, *, shown=True) -> S | None:
        details = ApprovalDetails("A hold", hold_id, amount=Money(500, "USD"), beneficiary_party_ids=frozenset({PAYEE}))
        with acting_as(MAKER):
            async with self.database.begin() as tx:
                await self.waiting.open(tx, details, holds_pb2.Hold(hold_id=hold_id), self.clock.now())
        return await self.get() if shown else None

    async def get(self, who=CHECKER) -> S:
        with acting_as(who):
            [found] = (await self.service.ListApprovals(pb.ListApprovalsRequest(), None)).approvals
            return await self.service.GetApproval(pb.GetApprovalRequest(approval_id=found.approval_id), None)

    async def approve_in_inbox(self, approval: S, who=CHECKER, *, validate_only=False) -> S:
        request = pb.ApproveApprovalRequest(
            idempotency_key="approve",
            approval_id=approval.approval_id,
            content_hash=approval.content_hash,
            etag=approval.etag,
            note="Looks right.",
            validate_only=validate_only,
        )
        with acting_as(who):
            return await self.service.ApproveApproval(request, None)

    async def approve_by_route(self, who=CHECKER) -> None:
        with acting_as(who):
            facts = await self.waiting.ask_facts(self.operations, self, HOLD)
            async with self.database.begin() as tx:
                await self.approve(tx, facts, self.clock.now())

    async def notes(self) -> list[str]:
        return await chassis.note_ids(self.database)


@pytest.fixture
async def desk(urls):
    async with chassis.opened(urls) as database:
        yield Desk(database)


async def test_the_inbox_shows_what_waits_and_what_would_change(desk):
    approval = await desk.begin()
    assert (approval.kind, approval.status, list(approval.makers)) == ("RELEASE_HOLD", S.PENDING, [MAKER.person])
    assert [change.field for change in approval.changes] == ["status"]


async def test_the_content_of_what_waits_is_written_as_that_of_what_is_asked_for(desk):
    approval = await desk.begin()
    assert json.loads(approval.content) == {
        "kind": "RELEASE_HOLD",
        "orgId": MAKER.org_id,
        "resource": {"holdId": HOLD},
        "amount": {"currencyCode": "USD", "amountMinor": "500"},
        "changes": [],
        "preconditions": [],
        "beneficiaryPartyIds": [PAYEE],
    }
    assert hash_content(approval.content) == approval.content_hash


async def test_a_yes_of_the_inbox_is_the_checkers_and_done_with_it(desk):
    done = await desk.approve_in_inbox(await desk.begin())
    assert (done.status, done.decided_by, done.result_id) == (S.EXECUTED, CHECKER.person, HOLD)
    assert done.note == "Looks right."
    assert await desk.notes() == [f"approved by {CHECKER.person}"]


async def test_a_yes_that_is_only_validated_says_that_it_would_be_the_last_and_has_done_nothing(desk):
    """As of what a person asked for."""
    approval = await desk.begin()
    said = await desk.approve_in_inbox(approval, validate_only=True)
    assert (said.status, said.HasField("result_id")) == (S.APPROVED, False)
    assert (await desk.get(), await desk.notes()) == (approval, [])


async def test_a_yes_by_the_own_route_is_the_inboxs_too(desk):
    approval = await desk.begin()
    await desk.approve_by_route()
    seen = await desk.get()
    assert (seen.status, seen.decided_by) == (S.EXECUTED, CHECKER.person)
    with pytest.raises(IllegalStatusChange):
        await desk.approve_in_inbox(await desk.get())
    with pytest.raises(ApprovalNotFound):
        await desk.approve_by_route()
    assert (await desk.notes(), approval.status) == ([f"approved by {CHECKER.person}"], S.PENDING)


@pytest.mark.parametrize("route", ["inbox", "own"])
async def test_neither_a_maker_nor_who_acts_for_a_party_that_gains_decides_by_either_way(desk, route):
    approval = await desk.begin()

    async def decide(who) -> None:
        await (desk.approve_in_inbox(approval, who) if route == "inbox" else desk.approve_by_route(who))

    with pytest.raises(MakerIsChecker):
        await decide(MAKER)
    desk.parties = frozenset({PAYEE})
    with pytest.raises(BeneficiaryIsChecker):
        await decide(CHECKER)
    assert await desk.notes() == []


async def test_what_nobody_approved_in_time_is_given_up(desk):
    await desk.begin()
    desk.clock.advance(VALIDITY)
    with pytest.raises(ApprovalExpired):
        await desk.approve_by_route()
    assert await desk.jobs["expire_approvals"].run() == 1
    assert await desk.notes() == ["ended: nobody approved it in time"]
    assert (await desk.get()).status == S.EXPIRED


async def test_what_is_rejected_or_taken_back_is_given_up(desk):
    approval = await desk.begin()
    with acting_as(CHECKER):
        no = pb.RejectApprovalRequest(approval_id=approval.approval_id, note="no", etag=approval.etag)
        assert (await desk.service.RejectApproval(no, None)).status == S.REJECTED
    assert await desk.notes() == ["ended: rejected: “no”"]


@pytest.mark.parametrize("how", ["reject", "cancel"])
async def test_what_ends_by_the_own_route_waits_for_nobody(desk, how):
    await desk.begin()
    with acting_as(CHECKER):
        async with desk.database.begin() as tx:
            if how == "reject":
                await desk.waiting.reject(tx, HOLD, "no", desk.clock.now())
            else:
                await desk.waiting.cancel(tx, HOLD, desk.clock.now())
    assert (await desk.get()).status == (S.REJECTED if how == "reject" else S.CANCELLED)


async def test_what_sql_says_waits_no_more_is_not_rejected_by_its_maker(desk):
    await desk.begin()
    async with desk.database.begin(MAKER.org_id) as tx:
        await tx.execute(sa.text("UPDATE approvals SET version = version + 1, status = 'CANCELLED'"))
    with acting_as(MAKER), pytest.raises(NotSealed):
        async with desk.database.begin() as tx:
            await desk.waiting.reject(tx, HOLD, "no", desk.clock.now())


@pytest.mark.parametrize("altered", ["status = 'CANCELLED'", "note = 'x'"], ids=["that it waits", "what it says"])
async def test_an_altered_approval_stops_its_resource_while_it_may_be_the_one_that_waits(desk, altered):
    await desk.begin()
    async with desk.database.begin(MAKER.org_id) as tx:
        await tx.execute(sa.text(f"UPDATE approvals SET version = version + 1, {altered}"))
    desk.clock.advance(VALIDITY)
    await desk.jobs["expire_approvals"].run()
    with pytest.raises(NotSealed):
        await desk.approve_by_route()
    desk.clock.advance(VALIDITY)
    with pytest.raises(ApprovalNotFound):
        await desk.approve_by_route()
    await desk.begin(shown=False)
    await desk.approve_by_route()
    assert await desk.notes() == [f"approved by {CHECKER.person}"]


async def test_with_what_was_asked_for_last_all_ends_that_could_not_be_read_when_it_was_asked_for(desk):
    await desk.begin()
    await desk.begin(shown=False)  # as if the first one had been altered meanwhile
    with acting_as(CHECKER):
        first, last = sorted(
            (await desk.service.ListApprovals(pb.ListApprovalsRequest(), None)).approvals,
            key=lambda each: each.approval_id,
        )
        no = pb.RejectApprovalRequest(approval_id=last.approval_id, note="no", etag=last.etag)
        await desk.service.RejectApproval(no, None)
        ended = await desk.service.GetApproval(pb.GetApprovalRequest(approval_id=first.approval_id), None)
    assert ended.status == S.CANCELLED
    assert await desk.notes() == ["ended: rejected: “no”"]


async def test_a_no_to_what_was_asked_for_before_leaves_what_was_asked_for_last(desk):
    first = await desk.begin()
    await desk.begin(shown=False)
    with acting_as(CHECKER):
        no = pb.RejectApprovalRequest(approval_id=first.approval_id, note="no", etag=first.etag)
        await desk.service.RejectApproval(no, None)
    await desk.approve_by_route()
    assert await desk.notes() == [f"approved by {CHECKER.person}"]


async def test_an_altered_approval_keeps_no_other_from_ending_in_time(desk):
    await desk.begin()
    async with desk.database.begin(MAKER.org_id) as tx:
        await tx.execute(sa.text("UPDATE approvals SET version = version + 1, note = 'x'"))
    await desk.begin("hold_2", shown=False)
    desk.clock.advance(VALIDITY)
    await desk.jobs["expire_approvals"].run()
    async with desk.database.begin(MAKER.org_id) as tx:
        assert set(await tx.scalars(sa.text("SELECT status FROM approvals"))) == {"PENDING", "EXPIRED"}


async def test_whoever_may_not_approve_by_the_own_route_may_not_by_the_inbox(desk):
    desk = Desk(desk.database, "realco.transactions.v1.TransactionsService/ApproveTransaction")
    approval = await desk.begin()
    sponsor = dataclasses.replace(CHECKER, role="sponsor")
    assert "approve" not in (await desk.get(sponsor)).allowed_actions
    with pytest.raises(PermissionDenied):
        await desk.approve_in_inbox(approval, sponsor)
    assert "approve" in (await desk.get()).allowed_actions


def test_the_rpc_of_a_request_is_found_in_its_file():
    assert find_rpc(holds_pb2.CaptureHoldRequest) == "realco.escrow.v1.HoldsService/CaptureHold"
