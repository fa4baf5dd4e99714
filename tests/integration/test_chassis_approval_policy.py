"""Where an organization wants more than one person to approve: nothing is done before as many have."""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta

import asyncpg
import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2 as pb

from services.chassis.calls.auth import acting_as
from services.chassis.calls.sign_in import InsufficientUserAuthentication
from services.chassis.data.tables import outbox
from services.chassis.values.approval import AlreadyApproved, ApprovalExpired
from services.chassis.values.approval_policy import ApprovalPolicy, ApprovalRule
from services.chassis.values.etags import EtagMismatch
from services.chassis.values.refusals import IllegalStatusChange, MakerIsChecker
from tests.support import chassis
from tests.support.approval_desk import CHECKER, MAKER, OTHER_MAKER, PAYEE, Desk, S
from tests.support.sessions import ENDED_AT, sign_in, sign_in_again

THIRD = OTHER_MAKER


def wanting(approvers: int, **more: int) -> ApprovalPolicy:
    rule = ApprovalRule(currency_code="USD", amount_minor_from=500, approvers_needed=approvers, **more)
    return ApprovalPolicy(organizations={MAKER.org_id: (rule,)})


@pytest.fixture
async def desk(urls):
    async with chassis.opened(urls, policy=wanting(2)) as database:
        yield Desk(database)


async def test_it_is_done_once_as_many_have_approved_it_as_the_rules_want(desk):
    asked = await desk.ask()
    assert (asked.approvers_needed, list(asked.approvers)) == (2, [])
    first = await desk.grant(asked, note="Seen.")
    assert (first.status, first.decided_by, await desk.notes()) == (S.PENDING, "", [])
    assert list(first.allowed_actions) == ["reject", "comment"]
    assert [await desk.list(who, decidable=True) for who in (CHECKER, THIRD)] == [[], [asked.approval_id]]
    with pytest.raises(EtagMismatch):  # each decides on what those before have said
        await desk.grant(asked, THIRD, key="second")
    read = await desk.get(asked, THIRD)
    assert [each.text for each in read.comments] == ["Seen."]
    done = await desk.grant(read, THIRD, key="second")
    assert (done.status, done.decided_by, desk.deed.done_as) == (S.EXECUTED, THIRD.person, [MAKER.person])
    assert [each.approved_by for each in done.approvers] == [CHECKER.person, THIRD.person]
    async with desk.database.begin_for_all() as tx:
        told = await tx.scalars(sa.select(outbox.c.event_type).order_by(outbox.c.id))
    assert [name.rpartition(".")[2] for name in told] == ["ApprovalRequested", *["ApprovalUpdated"] * 3]


async def test_nobody_approves_twice_and_a_yes_that_is_sent_again_is_answered_as_before(desk):
    asked = await desk.ask()
    first = await desk.grant(asked)
    assert await desk.grant(asked) == first
    with pytest.raises(AlreadyApproved):
        await desk.grant(first, key="once more")
    assert await desk.notes() == []


async def test_rules_that_became_stricter_count_for_what_waits_and_milder_ones_do_not(desk):
    asked = await desk.ask()
    desk.database.policy = wanting(3)
    first = await desk.grant(asked)
    assert (first.status, first.approvers_needed) == (S.PENDING, 3)
    desk.database.policy = wanting(1)
    second = await desk.grant(first, THIRD, key="second")
    assert second.status == S.PENDING
    fourth = dataclasses.replace(MAKER, subject="admin-4")
    assert (await desk.grant(second, fourth, key="third")).status == S.EXECUTED


async def test_it_ends_as_early_as_the_rules_say_however_many_have_approved_it(desk):
    desk.database.policy = wanting(2, valid_for_hours=1)
    first = await desk.grant(await desk.ask())
    desk.clock.moment += timedelta(hours=1)
    with pytest.raises(ApprovalExpired):
        await desk.grant(first, THIRD, key="second")
    assert await desk.jobs["expire_approvals"].run() == 1
    assert ((await desk.get(first)).status, await desk.notes()) == (S.EXPIRED, [])


def gain(desk):
    desk.persons.parties[CHECKER.person] = frozenset({PAYEE})


def end_sessions(desk):
    desk.persons.ended[CHECKER.person] = ENDED_AT


def edit(desk):
    desk.deed.makers |= {CHECKER.person}


@pytest.mark.parametrize(
    ("meanwhile", "why"),
    [
        (gain, f"acts for {PAYEE}, which gains from it"),
        (end_sessions, "said so in a session that was ended"),
        (edit, "had a part in making it"),
    ],
    ids=["gains", "session ended", "made it"],
)
async def test_who_approved_it_before_counts_only_who_may_still_approve_it_at_the_last_yes(desk, meanwhile, why):
    first = await desk.grant(await desk.ask(), sign_in(CHECKER))
    meanwhile(desk)
    foreseen = await desk.grant(first, THIRD, validate_only=True)
    assert list((await desk.get(first)).approvers) == list(first.approvers), "nothing of a rehearsal stays"
    second = await desk.grant(first, THIRD, key="second")
    for each in (foreseen, second):
        assert (each.status, [one.approved_by for one in each.approvers]) == (S.PENDING, [THIRD.person])
        said = f"The yes of {CHECKER.person} counts no longer: {why}."
        assert [(one.created_by, one.text) for one in each.comments] == [("service:approvals", said)]
    assert await desk.notes() == []
    fourth = dataclasses.replace(MAKER, subject="admin-4")
    done = await desk.grant(second, fourth, key="third")
    assert (done.status, [each.approved_by for each in done.approvers]) == (S.EXECUTED, [THIRD.person, fourth.person])


async def test_whoever_said_yes_in_a_session_that_was_ended_says_it_again(desk):
    asked = await desk.ask()
    first = await desk.grant(asked, sign_in(CHECKER))
    end_sessions(desk)
    again = await desk.grant(first, sign_in_again(CHECKER), key="again")
    assert [each.approved_by for each in again.approvers] == [CHECKER.person]
    assert (await desk.grant(again, THIRD, key="second")).status == S.EXECUTED


async def test_who_has_a_part_in_it_by_now_does_not_approve_it(desk):
    asked = await desk.ask()
    edit(desk)
    with pytest.raises(MakerIsChecker):
        await desk.grant(asked)


async def test_a_yes_counts_that_was_said_after_the_sessions_were_ended(desk):
    end_sessions(desk)
    first = await desk.grant(await desk.ask(), sign_in_again(CHECKER))
    assert (await desk.grant(first, THIRD, key="second")).status == S.EXECUTED


@pytest.mark.parametrize("who", [CHECKER, THIRD], ids=["approved it", "has said nothing"])
async def test_one_no_ends_it_and_who_approved_it_may_say_it_too(desk, who):
    first = await desk.grant(await desk.ask())
    with acting_as(who):
        no = pb.RejectApprovalRequest(approval_id=first.approval_id, note="no", etag=first.etag)
        rejected = await desk.service.RejectApproval(no, None)
    assert (rejected.status, rejected.decided_by) == (S.REJECTED, who.person)
    with pytest.raises(IllegalStatusChange):
        await desk.grant(rejected, THIRD, key="second")


@pytest.mark.parametrize(("seconds_ago", "may"), [(None, False), (120, False), (10, True)])
async def test_who_approves_signed_in_as_lately_as_the_rules_want(desk, seconds_ago, may):
    desk.database.policy = wanting(1, strong_sign_in_seconds_max=60)
    at = None if seconds_ago is None else int(time.time()) - seconds_ago
    who, asked = dataclasses.replace(CHECKER, strong_sign_in_at=at, strong_seconds_max=900), await desk.ask()
    if may:
        assert (await desk.grant(asked, who)).status == S.EXECUTED
    else:
        with pytest.raises(InsufficientUserAuthentication) as refused:
            await desk.grant(asked, who)
        assert refused.value.metadata["max_age"] == "60"


@pytest.mark.parametrize(
    "written",
    [
        "status = 'APPROVED', decided_by = approver_ids[1], decided_at = now()",
        f"approver_ids = approver_ids || '{{{MAKER.person}}}', approved_at = approved_at || now(),"  # noqa: ISC004
        " approver_signed_in_at = approver_signed_in_at || 1::bigint",
    ],
    ids=["done by one of two", "a yes of its maker"],
)
async def test_the_database_refuses_what_not_enough_have_approved(desk, written):
    await desk.grant(await desk.ask())
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        async with desk.database.begin(MAKER.org_id) as tx:
            await tx.execute(sa.text(f"UPDATE approvals SET version = version + 1, {written}"))
