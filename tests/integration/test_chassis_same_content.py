"""What is asked for more than once with the same content is done once by one yes, and openly once more by another."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2 as pb

from services.chassis.calls.auth import acting_as
from services.chassis.data.seals import NotSealed
from services.chassis.data.tables import outbox
from services.chassis.values.approval import SUBJECT
from services.chassis.values.approval_policy import ApprovalPolicy, ApprovalRule
from services.chassis.values.errors import DomainError, Unavailable
from services.chassis.values.refusals import MakerIsChecker
from tests.support import chassis
from tests.support.approval_desk import CHECKER, MAKER, OTHER_MAKER, Desk, NotEnough, S

TWO_APPROVE = ApprovalPolicy(all_organizations=(ApprovalRule(approvers_needed=2),))


@pytest.fixture
async def desk(urls):
    async with chassis.opened(urls) as database:
        yield Desk(database)


def said_of(approval: S) -> list[tuple[str, str]]:
    return [(each.created_by, each.text) for each in approval.comments]


async def test_the_yes_to_one_ends_all_that_were_asked_for_with_the_same_content_and_says_so(desk):
    first, by_another = await desk.ask(), await desk.ask(OTHER_MAKER)
    under_another_key = await desk.ask(key="key-2")
    something_else = await desk.ask(hold_id="hold_2", key="key-3")
    done = await desk.grant(first)
    assert (done.status, await desk.notes(), said_of(done)) == (S.EXECUTED, ["captured hold_1"], [])
    for same in (by_another, under_another_key):
        ended = await desk.get(same, OTHER_MAKER)
        assert (ended.status, ended.decided_by) == (S.CANCELLED, CHECKER.person)
        why = f"It is over: {first.approval_id}, which has the same content, was approved."
        assert said_of(ended) == [(SUBJECT, why)]
    assert (await desk.get(something_else)).status == S.PENDING
    async with desk.database.begin_for_all() as tx:
        told = list(await tx.scalars(sa.select(outbox.c.aggregate_id).where(outbox.c.event_type.like("%Updated"))))
    assert {*told} == {each.approval_id for each in (first, by_another, under_another_key)}


async def test_of_two_yeses_to_two_of_the_same_that_come_at_once_one_is_carried_out(desk):
    asked = [await desk.ask(), await desk.ask(OTHER_MAKER)]
    answers = await asyncio.gather(desk.grant(asked[0], key="a"), desk.grant(asked[1], key="b"), return_exceptions=True)
    assert [each.status for each in answers if isinstance(each, S)] == [S.EXECUTED]
    assert [each.reason for each in answers if isinstance(each, DomainError)] == ["ETAG_MISMATCH"]
    assert sorted([(await desk.get(each)).status for each in asked]) == [S.EXECUTED, S.CANCELLED]
    assert (await desk.notes(), len(desk.deed.done_as)) == (["captured hold_1"], 1)


async def test_whoever_asks_for_the_same_again_reads_that_it_was_done_when_and_by_whom(desk):
    first = await desk.ask()
    assert list(first.explanations) == []
    desk.deed.raises = Unavailable("It is away.")
    with pytest.raises(Unavailable):
        await desk.grant(first)
    desk.deed.raises = None
    for is_done, said in ((False, "it is being carried out."), (True, "it was carried out.")):
        if is_done:
            await desk.make_due()
            await desk.jobs["resume_approvals"].run()
            async with desk.database.begin_for_all() as tx:
                await tx.driver.execute("DELETE FROM notes")  # so it can be done once more
        again = await desk.ask(OTHER_MAKER, key=f"done {is_done}")
        for read in (again, await desk.get(again)):
            [explanation] = read.explanations
            assert (explanation.rule, explanation.statement.endswith(said)) == ("SAME_CONTENT", True)
            assert [(each.name, each.value) for each in explanation.operands] == [
                ("approval", first.approval_id),
                ("asked by", MAKER.person),
                ("approved by", CHECKER.person),
                ("approved at", "2026-11-22T12:00:00Z"),
            ]
        assert "approve" in (await desk.get(again)).allowed_actions
    assert list((await desk.ask(hold_id="hold_2", key="key-2")).explanations) == []


async def test_whoever_decides_reads_what_else_does_the_same_and_waits_or_was_approved(desk):
    first = await desk.ask()
    again = await desk.ask(OTHER_MAKER, key="key-2", etag="seen")
    assert first.content_hash != again.content_hash
    for asked, other, who in ((again, first, MAKER), (first, again, OTHER_MAKER)):
        [explanation] = (await desk.get(asked)).explanations
        said = f"{who.person} asked for what does the same, with another content, and {other.approval_id} waits"
        assert (explanation.rule, explanation.statement) == ("SAME_EFFECT", f"{said}: a yes to both does it twice.")
        assert [each.value for each in explanation.operands] == [other.approval_id, who.person]
    await desk.grant(first)
    [explanation] = (await desk.get(again)).explanations
    done = f"{CHECKER.person} approved it at 2026-11-22T12:00:00Z, and it was carried out."
    assert explanation.statement == f"{MAKER.person} asked for what does the same, with another content, {done}"
    assert "approve" in (await desk.get(again)).allowed_actions, "it is a fact, and no gate"


async def test_what_does_something_else_or_is_over_is_not_told(desk):
    first = await desk.ask()
    others = [await desk.ask(hold_id="hold_2", key="key-2"), await desk.ask(key="key-3", amount={"amount_minor": 7})]
    assert [list(each.explanations) for each in others] == [[], []]
    with acting_as(MAKER):
        await desk.service.CancelApproval(pb.CancelApprovalRequest(approval_id=first.approval_id), None)
    again = await desk.ask(OTHER_MAKER, key="key-4", etag="seen")
    assert list(again.explanations) == []
    desk.clock.moment = chassis.NOW + timedelta(days=7)  # when it ends by its time
    assert list((await desk.ask(key="key-5")).explanations) == []


async def test_what_did_nothing_is_no_repetition(desk):
    asked = await desk.ask()
    desk.deed.raises = NotEnough("Too little.")
    assert (await desk.grant(asked)).status == S.FAILED
    desk.deed.raises = None
    assert list((await desk.ask(key="again")).explanations) == []


async def reject(desk, asked: S, note: str) -> None:
    with acting_as(CHECKER):
        request = pb.RejectApprovalRequest(**read_of(asked) | {"idempotency_key": asked.approval_id}, note=note)
        await desk.service.RejectApproval(request, None)


@pytest.mark.parametrize(
    ("more", "what"), [({}, "just this"), ({"etag": "seen"}, "what does the same, with another content")]
)
async def test_whoever_decides_reads_who_said_no_to_it_before_and_why(desk, more, what):
    asked = await desk.ask()
    await reject(desk, asked, "Fraud.” Approved by the bank, too.")
    again = await desk.ask(OTHER_MAKER, key="again", **more)
    for read in (again, await desk.get(again)):
        [explanation] = read.explanations
        said = f"{CHECKER.person} said no at 2026-11-22T12:00:00Z, when {MAKER.person} asked for {what}"
        why = "“Fraud.' Approved by the bank, too.”"
        assert (explanation.rule, explanation.statement) == ("REJECTED_BEFORE", f"{said}: {why}.")
        assert [(each.name, each.value) for each in explanation.operands] == [
            ("approval", asked.approval_id),
            ("asked by", MAKER.person),
            ("rejected by", CHECKER.person),
            ("rejected at", "2026-11-22T12:00:00Z"),
        ]
    assert "approve" in (await desk.get(again)).allowed_actions, "it is a fact, and no gate"
    assert list((await desk.ask(hold_id="hold_2", key="key-2")).explanations) == [], "it is about something else"


async def test_of_many_noes_the_last_ten_are_told_and_none_is_buried_under_what_its_maker_took_back(desk):
    for number in range(12):
        await reject(desk, await desk.ask(key=f"key-{number}"), f"No {number}.")
    for number in range(12):
        taken_back = await desk.ask(key=f"back-{number}")
        with acting_as(MAKER):
            await desk.service.CancelApproval(pb.CancelApprovalRequest(approval_id=taken_back.approval_id), None)
    told = (await desk.ask(key="again")).explanations
    assert {each.rule for each in told} == {"REJECTED_BEFORE"}
    assert (len(told), told[-1].statement.endswith("that were rejected as well: 2.")) == (11, True)


async def test_whoever_asked_for_the_same_decides_on_neither_until_they_take_theirs_back(desk):
    first, same = await desk.ask(), await desk.ask(OTHER_MAKER)
    for maker, approval in ((OTHER_MAKER, first), (MAKER, same)):
        with pytest.raises(MakerIsChecker):
            await desk.grant(approval, maker)
        with acting_as(maker), pytest.raises(MakerIsChecker):
            await desk.service.RejectApproval(pb.RejectApprovalRequest(**read_of(approval), note="No."), None)
    with acting_as(OTHER_MAKER):
        await desk.service.CancelApproval(pb.CancelApprovalRequest(approval_id=same.approval_id), None)
    assert (await desk.grant(first, OTHER_MAKER, key="grant-2")).status == S.EXECUTED


async def test_whoever_approves_one_and_then_asks_for_the_same_has_approved_nothing(desk):
    desk.database.policy = TWO_APPROVE
    first = await desk.ask()
    await desk.grant(first)
    same = await desk.ask(CHECKER)
    after = await desk.grant(await desk.get(first), OTHER_MAKER)
    assert (after.status, [each.approved_by for each in after.approvers]) == (S.PENDING, [OTHER_MAKER.person])
    assert said_of(after) == [(SUBJECT, f"The yes of {CHECKER.person} counts no longer: had a part in making it.")]
    assert (await desk.get(same)).status == S.PENDING, "one yes of two ends nothing"


async def test_what_else_was_asked_for_is_compared_listed_and_ended_without_its_content_which_may_be_long(desk, urls):
    """Else each read of an approval would cost as much as all that others have wait. A content that is read is compared
    with its hash, so one that was altered shows who reads it."""
    first, same = await desk.ask(), await desk.ask(OTHER_MAKER)
    alike, rejected = [await desk.ask(OTHER_MAKER, key=f"key-{etag}", etag=etag) for etag in ("seen", "read")]
    await reject(desk, rejected, "No.")
    others = {each.approval_id: each for each in (same, alike, rejected)}
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("UPDATE approvals SET content = 'x' WHERE approval_id = ANY ($1)", [*others])
    assert [each.rule for each in (await desk.get(first)).explanations] == ["SAME_EFFECT", "REJECTED_BEFORE"]
    assert {*await desk.list()} == {first.approval_id, *others}
    assert (await desk.grant(first)).status == S.EXECUTED
    assert {*await desk.list(status=["CANCELLED"])} == {same.approval_id}
    for each in others.values():
        with pytest.raises(NotSealed):
            await desk.get(each)


def read_of(approval: S) -> dict[str, str]:
    return {"approval_id": approval.approval_id, "etag": approval.etag, "idempotency_key": "no"}


@pytest.mark.parametrize("is_done", [True, False])
async def test_what_was_carried_out_and_then_altered_is_told(desk, is_done):
    """Or what is being carried out just now, and is called failed meanwhile."""
    first = await desk.ask()
    desk.deed.raises = None if is_done else Unavailable("It is away.")
    with contextlib.suppress(Unavailable):
        await desk.grant(first)
    desk.deed.raises = None
    async with desk.database.begin_for_all() as tx:
        altered = "note = 'x'" if is_done else "status = 'FAILED', due_at = NULL"
        await tx.execute(sa.text(f"UPDATE approvals SET version = version + 1, {altered}"))
        await tx.driver.execute("DELETE FROM notes")  # so it can be done once more
    [told] = (await desk.ask(OTHER_MAKER, key="key-2")).explanations
    said = "Requests like it that were altered in the database: 1. Whether this was done before, nobody knows."
    assert (told.rule, told.statement) == ("REQUESTS_ALTERED", said)
