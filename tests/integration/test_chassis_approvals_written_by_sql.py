"""What whoever has a login of the database writes into approvals: nothing is done by it, and nobody is held up."""

from __future__ import annotations

import asyncpg
import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2 as pb
from structlog.testing import capture_logs

from services.chassis.approvals.jobs import APPROVAL_WORK
from services.chassis.calls.auth import acting_as
from services.chassis.data.due import PAGE_ROWS, PATIENCE
from services.chassis.data.overdue import OverdueWatch
from services.chassis.data.seals import NotSealed
from services.chassis.values.approval import VALIDITY
from services.chassis.values.errors import Unavailable
from services.chassis.values.invariant import InvariantViolation
from tests.support import chassis
from tests.support.approval_desk import CHECKER, MAKER, Desk, S


@pytest.fixture
async def desk(urls):
    async with chassis.opened(urls) as database:
        yield Desk(database)


async def test_nothing_is_done_that_the_row_alone_says_was_decided(desk):
    """Who writes rows and holds no key has nothing done: neither without a decision nor with another content."""
    asked = await desk.ask()
    undecided = "UPDATE approvals SET version = version + 1, status = 'APPROVED', due_at = now()"
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        async with desk.database.begin(MAKER.org_id) as tx:
            await tx.execute(sa.text(undecided))
    names = (
        "org_id, version, kind, summary, status, resource_id, amount_minor, currency, content, content_hash,"
        " effect_hash, anew_hash, matter_hash, makers, beneficiary_party_ids, created_by, created_role, created_at,"
        " expires_at, updated_at,"
        " approvers_needed, approver_ids, approved_at, approver_signed_in_at, seal"
    )
    by_x = "decided_by = 'x', decided_at = now(), approver_ids = '{x}', approved_at = ARRAY[now()]"
    by_x += ", approver_signed_in_at = '{1}'"
    decided = f"{undecided}, {by_x}"
    async with desk.database.begin(MAKER.org_id) as tx:
        await tx.execute(
            sa.text(f"INSERT INTO approvals (approval_id, {names}) SELECT 'apr_forged', {names} FROM approvals")
        )
        await tx.execute(sa.text(decided))
    await desk.jobs["resume_approvals"].run()
    assert await desk.notes() == []
    for approval_id in (asked.approval_id, "apr_forged"):
        asked.approval_id = approval_id
        with pytest.raises(NotSealed):
            await desk.get(asked)


async def test_nothing_is_due_but_what_was_approved_and_nothing_else_is_done_whoever_has_it_done(desk):
    """Who may write when a row is due says by it that a job looks at it, and not that anybody approved it."""
    waits, rejected, cancelled = [await desk.ask(key=f"key-{n}", hold_id=f"hold_{n}") for n in range(3)]
    no = pb.RejectApprovalRequest(
        approval_id=rejected.approval_id, etag=rejected.etag, note="No.", idempotency_key="no"
    )
    with acting_as(CHECKER):
        await desk.service.RejectApproval(no, None)
    with acting_as(MAKER):
        await desk.service.CancelApproval(pb.CancelApprovalRequest(approval_id=cancelled.approval_id), None)
    with pytest.raises(asyncpg.CheckViolationError, match="approvals_due_until_done"):
        async with desk.database.begin_for_all() as tx:
            await tx.driver.execute("UPDATE approvals SET due_at = now()")
    for approval in (waits, rejected, cancelled):
        with acting_as(CHECKER):
            async with desk.database.begin(MAKER.org_id) as tx:
                found = await desk.approvals.find(tx, approval.approval_id)
        with pytest.raises(InvariantViolation):
            await desk.approvals.executions.execute(found)
    assert await desk.jobs["resume_approvals"].run() == 0
    assert await desk.notes() == []


@pytest.mark.parametrize(
    "words",
    [
        """comments = '[{"created_by": "admin-2", "text": "Fine.", "created_at": "2026-01-01T00:00:00+00:00"}]'""",
        "note = 'I called them.'",
        "result = '{}'",
        """failure = '{"code": "X", "message": "No.", "retryable": false, "metadata": {}}'""",
    ],
)
async def test_words_that_sql_put_into_an_approval_are_read_by_nobody_and_the_list_goes_on_without_it(desk, words):
    asked = await desk.ask()
    other = await desk.ask(key="key-2", hold_id="hold_2")
    async with desk.database.begin(MAKER.org_id) as tx:
        mine = {"id": asked.approval_id}
        await tx.execute(sa.text(f"UPDATE approvals SET version = version + 1, {words} WHERE approval_id = :id"), mine)
    with pytest.raises(NotSealed):
        await desk.get(asked)
    with acting_as(CHECKER):
        listed = await desk.service.ListApprovals(pb.ListApprovalsRequest(), None)
    assert [each.approval_id for each in listed.approvals] == [other.approval_id]


async def test_what_fails_when_it_is_done_waits_and_keeps_no_other_from_its_turn(desk):
    approvals = [await desk.ask(key=f"key-{hold}", hold_id=hold) for hold in ("hold_1", "hold_2")]
    desk.deed.raises = Unavailable("It is away.")
    for approval in approvals:
        with pytest.raises(Unavailable):
            await desk.grant(approval, key=approval.approval_id)
    desk.deed.raises = None
    desk.deed.fails_for = {"hold_1": NotSealed("holds", "hold_1")}
    await desk.make_due()
    assert await desk.jobs["resume_approvals"].run() == 2
    assert [(await desk.get(each)).status for each in approvals] == [S.APPROVED, S.EXECUTED]


async def test_approvals_that_sql_made_keep_none_of_ours_from_being_done_or_ending(desk):
    """There are more of them than a job takes at a time, and they come before ours."""
    done, late = await desk.ask(key="key-1"), await desk.ask(key="key-2", hold_id="hold_2")
    async with desk.database.begin(MAKER.org_id) as tx:
        await tx.driver.execute(
            "INSERT INTO approvals SELECT (jsonb_populate_record(a, jsonb_build_object("
            "'approval_id', a.approval_id || n, 'expires_at', a.expires_at - interval '1 second'))).*"
            f" FROM approvals a, generate_series(1, {PAGE_ROWS + 1}) n"
        )
        decided = (
            "status = 'APPROVED', due_at = '0001-01-02', decided_by = 'x', decided_at = now(), approver_ids = '{x}'"
        )
        decided += ", approved_at = ARRAY[now()], approver_signed_in_at = '{1}'"
        written = f"UPDATE approvals SET version = version + 1, {decided} WHERE approval_id LIKE '{done.approval_id}_%'"
        await tx.driver.execute(written)
    desk.deed.raises = Unavailable("It is away.")
    with pytest.raises(Unavailable):
        await desk.grant(done)
    desk.deed.raises = None
    async with desk.database.begin_for_all() as tx:
        await tx.driver.execute(f"UPDATE approvals SET due_at = now() WHERE approval_id = '{done.approval_id}'")
    assert await desk.jobs["resume_approvals"].run() == 1
    desk.clock.moment += VALIDITY
    assert await desk.jobs["expire_approvals"].run() == 1
    assert [(await desk.get(each)).status for each in (done, late)] == [S.EXECUTED, S.EXPIRED]


async def test_what_is_put_off_again_and_again_is_told_until_it_is_done(desk):
    approval, alarms = await desk.ask(), {}
    desk.deed.raises = Unavailable("It is away.")
    with pytest.raises(Unavailable):
        await desk.grant(approval)
    watch = OverdueWatch(desk.database, desk.clock, alarms, APPROVAL_WORK)
    with capture_logs() as logged:
        await watch.look()
        assert alarms == {}
        async with desk.database.begin(MAKER.org_id) as tx:
            await tx.driver.execute("UPDATE approvals SET due_at = now() + interval '23 hours', tries = 0")
        desk.clock.moment += PATIENCE
        for _ in range(2):
            await watch.look()
            assert alarms == {"overdue approvals": "1 wait for longer than they should"}
        desk.deed.raises = None
        await desk.make_due()
        await desk.jobs["resume_approvals"].run()
        await watch.look()
    assert alarms == {}
    told = [line for line in logged if line["event"] == "work_overdue"]
    assert [(line["table"], line["row"]) for line in told] == [("approvals", f"{MAKER.org_id} {approval.approval_id}")]
