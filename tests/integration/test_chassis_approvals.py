"""Nobody alone: what needs two persons is asked for by one, decided by another, and done once."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest
from realco.compliance.v1 import approvals_pb2 as pb
from realco.escrow.v1 import escrow_pb2, events_pb2
from realco.type.v1 import approval_pb2

from services.chassis.approvals.book import ApprovalKind, Approvals
from services.chassis.approvals.changes import ApprovalEvents
from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.auth import Principal, acting_as, current_principal
from services.chassis.data.once import once
from services.chassis.data.operations import Operations
from services.chassis.values.approvals import (
    VALIDITY,
    ApprovalExpired,
    ApprovalNotFound,
    BeneficiaryIsChecker,
    Dossier,
    NotAMaker,
)
from services.chassis.values.errors import DomainError, Kind, Unavailable
from services.chassis.values.etags import EtagMismatch
from services.chassis.values.money import Money
from services.chassis.values.refusals import ContentChanged, IllegalStatusChange, MakerIsChecker
from tests.support import chassis

MAKER = chassis.ADMIN
CHECKER = dataclasses.replace(MAKER, subject="admin-2")
EDITOR = dataclasses.replace(MAKER, subject="editor")
PAYEE = "pty_payee"
S = approval_pb2.Approval


class NotEnough(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "NOT_ENOUGH"


class TestClock:
    __test__ = False

    def __init__(self):
        self.moment = chassis.NOW

    def now(self):
        return self.moment


class Persons:
    """For whom persons act at this moment."""

    def __init__(self):
        self.parties: dict[str, frozenset[str]] = {}

    async def list_current(self, principal: Principal) -> frozenset[str]:
        return self.parties.get(principal.subject, frozenset())

    list_heard = list_current


class Deed:
    """Captures a hold: one note for each that was really captured, and the names of those in whose name."""

    def __init__(self, database):
        self._database = database
        self.raises: DomainError | None = None
        self.done_as: list[str] = []

    async def describe(self, request, now) -> Dossier:
        return Dossier(
            f"Capture {request.hold_id}",
            request.escrow_account_id,
            amount=Money(500, "USD"),
            makers=frozenset({EDITOR.person}),
            beneficiary_party_ids=frozenset({PAYEE}),
        )

    async def execute(self, request) -> escrow_pb2.Hold:
        if self.raises is not None:
            raise self.raises

        async def capture(tx):
            await chassis.add_note(tx, f"captured {request.hold_id}")
            return escrow_pb2.Hold(hold_id=request.hold_id)

        answer = await once(self._database, request, escrow_pb2.Hold, capture)
        if not request.validate_only:
            self.done_as.append(current_principal().person)
        return answer


class Desk:
    """The service under test, and who stands before it."""

    def __init__(self, database):
        self.database = database
        self.clock = TestClock()
        self.deed = Deed(database)
        self.persons = Persons()
        operations = Operations(database, self.clock)
        kind = ApprovalKind(
            escrow_pb2.CaptureHoldRequest,
            escrow_pb2.CaptureHoldResponse,
            self.deed.describe,
            self.deed.execute,
            lambda hold: escrow_pb2.CaptureHoldResponse(hold=hold),
            lambda request, hold: f"/holds/{hold.hold_id}",
        )
        self.approvals = Approvals(
            operations, [kind], ApprovalEvents(events_pb2.ApprovalRequested, events_pb2.ApprovalUpdated)
        )
        self.service = ApprovalsServicer(operations, self.approvals, self.persons)
        self.jobs = {job.name: job for job in build_approval_jobs("escrow", operations, self.approvals)}

    async def ask(self, who=MAKER, key="key-1", hold_id="hold_1") -> S:
        with acting_as(who):
            answer = await self.approvals.carry_out(
                escrow_pb2.CaptureHoldRequest(escrow_account_id="esc_1", hold_id=hold_id, idempotency_key=key)
            )
        return answer.approval

    async def grant(self, approval: S, who=CHECKER, key="grant-1", **changes) -> S:
        read = {"approval_id": approval.approval_id, "content_hash": approval.content_hash, "etag": approval.etag}
        asked = read | changes
        with acting_as(who):
            return await self.service.ApproveApproval(pb.ApproveApprovalRequest(idempotency_key=key, **asked), None)

    async def get(self, approval: S, who=CHECKER) -> S:
        with acting_as(who):
            return await self.service.GetApproval(pb.GetApprovalRequest(approval_id=approval.approval_id), None)

    async def list(self, who=CHECKER, **filters) -> list[str]:
        with acting_as(who):
            answer = await self.service.ListApprovals(pb.ListApprovalsRequest(**filters), None)
        return [approval.approval_id for approval in answer.approvals]

    async def notes(self) -> list[str]:
        return await chassis.note_ids(self.database)


@pytest.fixture
async def desk(postgres):
    async with chassis.opened(await chassis.create(postgres)) as database:
        yield Desk(database)


async def test_what_is_asked_for_is_not_done(desk):
    approval = await desk.ask()
    assert (approval.status, approval.kind, await desk.notes()) == (S.PENDING, "CAPTURE_HOLD", [])
    assert set(approval.makers) == {MAKER.person, EDITOR.person}


@pytest.mark.parametrize(
    "who",
    [
        Principal("service:ledger-import", "service", MAKER.org_id),
        Principal("investor-1", "investor", MAKER.org_id, parties=frozenset({PAYEE})),
    ],
    ids=["a service", "an investor"],
)
async def test_what_was_decided_elsewhere_or_is_ones_own_is_done_at_once(desk, who):
    with acting_as(who):
        request = escrow_pb2.CaptureHoldRequest(escrow_account_id="esc_1", hold_id="hold_1", idempotency_key="key-1")
        answer = await desk.approvals.carry_out(request)
    assert (answer.hold.hold_id, await desk.notes()) == ("hold_1", ["captured hold_1"])


async def test_what_could_not_be_done_is_not_asked_for(desk):
    desk.deed.raises = NotEnough("Too little.")
    with pytest.raises(NotEnough):
        await desk.ask()
    assert await desk.list() == []


async def test_another_person_has_it_done_in_the_name_of_its_maker(desk):
    approval = await desk.ask()
    done = await desk.grant(approval)
    assert (done.status, done.decided_by, done.result_path) == (S.EXECUTED, CHECKER.person, "/holds/hold_1")
    assert (desk.deed.done_as, await desk.notes()) == ([MAKER.person], ["captured hold_1"])


async def test_a_decision_that_is_sent_again_is_answered_again_and_does_nothing(desk):
    approval = await desk.ask()
    first = await desk.grant(approval)
    assert await desk.grant(approval) == first
    assert await desk.notes() == ["captured hold_1"]


@pytest.mark.parametrize("who", [MAKER, EDITOR], ids=["asked for it", "made its content"])
async def test_no_maker_decides(desk, who):
    approval = await desk.ask()
    with pytest.raises(MakerIsChecker):
        await desk.grant(approval, who)
    assert await desk.notes() == []


async def test_nobody_decides_who_acts_for_a_party_that_gains(desk):
    approval = await desk.ask()
    desk.persons.parties[CHECKER.subject] = frozenset({PAYEE})
    with pytest.raises(BeneficiaryIsChecker):
        await desk.grant(approval)
    assert await desk.notes() == []


async def test_a_decision_is_about_the_content_that_was_read(desk):
    approval = await desk.ask()
    with pytest.raises(ContentChanged):
        await desk.grant(approval, content_hash="0" * 64)
    assert (await desk.get(approval)).status == S.PENDING


async def test_a_question_that_came_after_the_reading_stops_the_decision(desk):
    approval = await desk.ask()
    with acting_as(MAKER):
        request = pb.CommentApprovalRequest(approval_id=approval.approval_id, text="Wait.", idempotency_key="k")
        await desk.service.CommentApproval(request, None)
    with pytest.raises(EtagMismatch):
        await desk.grant(approval)
    assert (await desk.grant(await desk.get(approval), key="again")).status == S.EXECUTED


async def test_it_ends_at_its_instant_whether_a_job_has_run_or_not(desk):
    approval = await desk.ask()
    desk.clock.moment += VALIDITY
    assert (await desk.get(approval)).status == S.EXPIRED
    assert await desk.list(status=["EXPIRED"]) == [approval.approval_id]
    assert await desk.list(status=["PENDING"]) == []
    with pytest.raises(ApprovalExpired):
        await desk.grant(approval)
    assert await desk.jobs["expire_approvals"].run() == 1
    assert await desk.jobs["expire_approvals"].run() == 0


async def test_what_is_refused_when_it_is_done_says_why(desk):
    approval = await desk.ask()
    desk.deed.raises = NotEnough("Too little by now.", available_minor=3)
    done = await desk.grant(approval)
    assert (done.status, done.failure.code, dict(done.failure.metadata)) == (
        S.FAILED,
        "NOT_ENOUGH",
        {"available_minor": "3"},
    )


async def test_what_was_approved_of_a_version_that_is_gone_has_failed(desk):
    approval = await desk.ask()
    desk.deed.raises = EtagMismatch("It was changed since.")
    done = await desk.grant(approval)
    assert (done.status, done.failure.code) == (S.FAILED, "ETAG_MISMATCH")


async def test_what_was_approved_while_a_service_was_away_is_done_by_a_job(desk):
    approval = await desk.ask()
    desk.deed.raises = Unavailable("It is away.")
    with pytest.raises(Unavailable):
        await desk.grant(approval)
    assert (await desk.get(approval)).status == S.APPROVED
    desk.deed.raises = None
    await _make_due(desk.database)
    assert await desk.jobs["resume_approvals"].run() == 1
    assert ((await desk.get(approval)).status, await desk.notes()) == (S.EXECUTED, ["captured hold_1"])


async def test_two_who_decide_at_once_have_it_done_once(desk):
    approval = await desk.ask()
    third = dataclasses.replace(MAKER, subject="admin-3")
    outcomes = await asyncio.gather(
        desk.grant(approval, key="a"), desk.grant(approval, third, key="b"), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, EtagMismatch | IllegalStatusChange)]
    assert (len(refused), await desk.notes()) == (1, ["captured hold_1"])


async def test_a_rejected_one_stays_undone(desk):
    approval = await desk.ask()
    with acting_as(CHECKER):
        request = pb.RejectApprovalRequest(approval_id=approval.approval_id, reason="no", etag=approval.etag)
        rejected = await desk.service.RejectApproval(request, None)
    assert (rejected.status, rejected.reason) == (S.REJECTED, "no")
    with pytest.raises(IllegalStatusChange):
        await desk.grant(rejected)


async def test_only_a_maker_takes_it_back(desk):
    approval = await desk.ask()
    request = pb.CancelApprovalRequest(approval_id=approval.approval_id)
    with acting_as(CHECKER), pytest.raises(NotAMaker):
        await desk.service.CancelApproval(request, None)
    with acting_as(MAKER):
        assert (await desk.service.CancelApproval(request, None)).status == S.CANCELLED


async def test_a_question_and_its_answer_stand_beside_it(desk):
    approval = await desk.ask()
    for who, text in ((CHECKER, "Why now?"), (MAKER, "The term ends tomorrow.")):
        with acting_as(who):
            request = pb.CommentApprovalRequest(approval_id=approval.approval_id, text=text, idempotency_key=text)
            await desk.service.CommentApproval(request, None)
    found = await desk.get(approval)
    assert [(each.created_by, each.text) for each in found.comments] == [
        (CHECKER.person, "Why now?"),
        (MAKER.person, "The term ends tomorrow."),
    ]


async def test_whoever_looks_sees_what_that_person_may_do(desk):
    approval = await desk.ask()
    auditor = Principal("auditor", "auditor", MAKER.org_id)
    assert list((await desk.get(approval, MAKER)).allowed_actions) == ["cancel", "comment"]
    assert list((await desk.get(approval, CHECKER)).allowed_actions) == ["approve", "reject", "comment"]
    assert list((await desk.get(approval, auditor)).allowed_actions) == []


async def test_the_inbox_is_filtered_as_a_person_looks_for_work(desk):
    mine, other = await desk.ask(key="a"), await desk.ask(CHECKER, key="b", hold_id="hold_2")
    desk.clock.moment += timedelta(minutes=1)
    assert await desk.list(MAKER, mine=True) == [mine.approval_id]
    assert await desk.list(MAKER, mine=False) == [other.approval_id]
    assert await desk.list(kind=["OTHER"]) == []
    assert len(await desk.list(amount_minor_from=500)) == 2
    assert await desk.list(amount_minor_from=501) == []
    assert len(await desk.list(resource_id=["esc_1"])) == 2


async def test_another_organization_sees_and_decides_nothing(desk):
    approval = await desk.ask()
    assert await desk.list(chassis.OTHER_ORG) == []
    for attempt in (desk.get(approval, chassis.OTHER_ORG), desk.grant(approval, chassis.OTHER_ORG)):
        with pytest.raises(ApprovalNotFound):
            await attempt


async def _make_due(database) -> None:
    async with database.begin_for_all() as tx:
        await tx.exec_driver_sql("UPDATE approvals SET due_at = now() WHERE due_at IS NOT NULL")
