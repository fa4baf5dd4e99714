"""What was asked for in a session that was ended since is approved by nobody: perhaps it was not who asked."""

from __future__ import annotations

import dataclasses

import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2 as pb

from services.chassis.calls.auth import acting_as
from services.chassis.calls.sign_in import SessionEnded
from services.chassis.data.seals import NotSealed
from services.chassis.values.approval import MakerSessionEnded
from services.chassis.values.approval_policy import ApprovalPolicy, ApprovalRule
from services.chassis.values.errors import Unavailable
from tests.support import chassis
from tests.support.approval_desk import CHECKER, MAKER, OTHER_MAKER, Desk, S
from tests.support.sessions import ENDED_AT, KEY, SIGNED_IN_AT, sign_in, sign_in_again, sign_in_by_key

PERSON, PROGRAM = sign_in(MAKER), sign_in_by_key(MAKER)


@pytest.fixture
async def desk(urls):
    async with chassis.opened(urls) as database:
        yield Desk(database)


def end_sessions(desk):
    desk.persons.ended[MAKER.person] = ENDED_AT


def revoke_key(desk):
    desk.persons.revoked.add(KEY)


WAYS = pytest.mark.parametrize(
    ("who", "lock_out"),
    [(PERSON, end_sessions), (PROGRAM, end_sessions), (PROGRAM, revoke_key)],
    ids=["a person", "a program whose holder's sessions end", "a program whose key is revoked"],
)


@WAYS
async def test_nobody_approves_what_was_asked_for_in_a_session_that_was_ended(desk, who, lock_out):
    asked = await desk.ask(who)
    assert "approve" in (await desk.get(asked)).allowed_actions
    lock_out(desk)
    for foreseen in (True, False):
        with pytest.raises(MakerSessionEnded):
            await desk.grant(asked, validate_only=foreseen)
    read = await desk.get(asked)
    assert (read.status, list(read.approvers), await desk.notes()) == (S.PENDING, [], [])


@WAYS
async def test_whoever_reads_it_is_told_and_offered_no_yes(desk, who, lock_out):
    asked = await desk.ask(who)
    before = await desk.get(asked)
    lock_out(desk)
    read = await desk.get(asked)
    assert [each.rule for each in before.explanations] == []
    assert [(each.rule, each.operands[0].value) for each in read.explanations] == [
        ("MAKER_SESSION_ENDED", MAKER.person)
    ]
    assert list(read.allowed_actions) == ["reject", "comment"]


@pytest.mark.parametrize("verb", ["Reject", "Cancel", "Comment"])
async def test_it_is_rejected_taken_back_and_spoken_about_as_before(desk, verb):
    asked = await desk.ask(PERSON)
    end_sessions(desk)
    words = {"Reject": {"note": "no"}, "Cancel": {}, "Comment": {"text": "Was it you?"}}[verb]
    request = getattr(pb, f"{verb}ApprovalRequest")(approval_id=asked.approval_id, etag=asked.etag, **words)
    with acting_as(MAKER if verb == "Cancel" else CHECKER):
        answer = await getattr(desk.service, f"{verb}Approval")(request, None)
    assert answer.status == {"Reject": S.REJECTED, "Cancel": S.CANCELLED, "Comment": S.PENDING}[verb]


async def test_the_last_yes_of_several_counts_no_more_than_the_first(desk):
    desk.database.policy = ApprovalPolicy(all_organizations=(ApprovalRule(approvers_needed=2),))
    first = await desk.grant(await desk.ask(PERSON))
    end_sessions(desk)
    with pytest.raises(MakerSessionEnded):
        await desk.grant(first, OTHER_MAKER, key="second")
    assert await desk.notes() == []


async def test_only_the_session_of_who_asked_counts_and_not_that_of_whoever_had_a_part_in_it(desk):
    asked = await desk.ask(PERSON)
    desk.persons.ended[next(iter(desk.deed.makers))] = ENDED_AT
    assert (await desk.grant(asked)).status == S.EXECUTED


async def test_what_a_service_asked_for_has_no_session(desk):
    asked = await desk.ask(dataclasses.replace(MAKER, subject="a deed", on_behalf_of=MAKER.person))
    end_sessions(desk)
    assert (await desk.grant(asked)).status == S.EXECUTED


async def test_what_was_asked_for_after_the_sessions_were_ended_is_approved(desk):
    end_sessions(desk)
    asked = await desk.ask(sign_in_again(MAKER))
    assert (await desk.grant(asked)).status == S.EXECUTED


@WAYS
async def test_whoever_asks_again_after_a_new_sign_in_asked_for_it_in_that_session(desk, who, lock_out):
    asked = await desk.ask(who, key="")
    lock_out(desk)
    assert (await desk.ask(who, key="")).etag == asked.etag, "in the same session it stays as it is"
    again = await desk.ask(sign_in_again(MAKER), key="")
    assert (again.approval_id, again.etag == asked.etag) == (asked.approval_id, False)
    assert list((await desk.get(again)).explanations) == []
    assert (await desk.grant(again)).status == S.EXECUTED


async def test_what_was_approved_before_the_sessions_were_ended_is_done(desk):
    asked = await desk.ask(PERSON)
    desk.deed.raises = Unavailable("It is away.")
    with pytest.raises(Unavailable):
        await desk.grant(asked)
    end_sessions(desk)
    desk.deed.raises = None
    await desk.make_due()
    await desk.jobs["resume_approvals"].run()
    assert (await desk.get(asked)).status == S.EXECUTED


@pytest.mark.parametrize(
    "refusal", [Unavailable("Compliance is away."), SessionEnded("Yours.")], ids=lambda each: each.reason
)
async def test_while_nobody_can_tell_no_yes_counts_and_it_is_read_all_the_same(desk, refusal):
    asked = await desk.ask(PERSON)
    end_sessions(desk)
    desk.persons.refusal = refusal
    with pytest.raises(type(refusal)):
        await desk.grant(asked)
    read = await desk.get(asked)
    assert (read.status, list(read.explanations)) == (S.PENDING, [])


@pytest.mark.parametrize("written", ["signed_in_at = NULL", f"signed_in_at = {SIGNED_IN_AT + 2}", "api_key_id = NULL"])
async def test_no_login_of_the_database_says_that_it_was_asked_for_in_another_session(desk, written):
    asked = await desk.ask(PROGRAM)
    end_sessions(desk)
    async with desk.database.begin(MAKER.org_id) as tx:
        await tx.execute(sa.text(f"UPDATE approvals SET version = version + 1, {written}"))
    with pytest.raises(NotSealed):
        await desk.grant(asked)
