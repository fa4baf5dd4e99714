"""What two persons say about money that is to move: compliance hears each by that person's own token."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.compliance.v1 import parties_pb2
from structlog.testing import capture_logs

from services.chassis.calls.auth import Principal, SignedInKey, acting_as
from services.chassis.data.seals import NotSealed
from services.chassis.values.approval import VALIDITY
from services.chassis.values.approval_policy import NO_POLICY, ApprovalPolicy, ApprovalRule
from services.chassis.values.ids import new_id
from services.compliance.domain.refusals import JustDecided
from services.compliance.tables import statements
from tests.support.compliance import CHECKER, MAKER, ORG, START, ComplianceHarness
from tests.support.notary import (
    MAKER_AGAIN,
    OTHER_ACCOUNT,
    OTHER_HASH,
    THIRD,
    TWICE,
    Desk,
    movement,
)


@pytest.fixture
def desk(compliance: ComplianceHarness) -> Desk:
    return Desk(compliance, "CLOSE_OFFERING")


@pytest.fixture
def executing_desk(compliance: ComplianceHarness) -> Desk:
    return Desk(compliance, "APPROVE_DISTRIBUTION")


async def test_what_one_person_asked_for_and_another_approved_is_decided(desk: Desk) -> None:
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"
    await desk.ask()
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"
    assert await desk.approve() == ""
    assert await desk.check() == (MAKER.person, CHECKER.person)
    assert await desk.check(movement=movement(bob=40, ann=60)) == (MAKER.person, CHECKER.person)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"movement": movement(ann=60, bob=41)}, id="a cent more"),
        pytest.param({"movement": movement(ann=60, bob=39)}, id="a cent less"),
        pytest.param({"movement": movement(ann=40, bob=60)}, id="the amounts of two parties exchanged"),
        pytest.param({"movement": movement(ann=100)}, id="all to one party"),
        pytest.param({"movement": movement(ann=60)}, id="a part of it"),
        pytest.param({"movement": TWICE}, id="a line twice"),
        pytest.param({"movement": movement(OTHER_ACCOUNT, ann=60, bob=40)}, id="of another escrow account"),
        pytest.param({"content_hash": OTHER_HASH}, id="of another content"),
        pytest.param({"kind": "CLOSE_OFFERING"}, id="as another kind of decision"),
        pytest.param({"resource_id": "dist_" + "0" * 26}, id="for another resource"),
        pytest.param({"org": "org-b"}, id="of another organization"),
    ],
)
async def test_a_decision_serves_nothing_but_what_was_decided(executing_desk: Desk, asked: dict[str, Any]) -> None:
    await executing_desk.ask()
    await executing_desk.approve()
    assert await executing_desk.execute() == ""
    assert await executing_desk.check(**asked) == "MOVEMENT_NOT_DECIDED"


async def test_what_was_approved_moves_once_a_person_executes_it_and_no_more_when_it_is_taken_back(
    executing_desk: Desk,
) -> None:
    desk = executing_desk
    await desk.ask()
    assert await desk.execute() == "MOVEMENT_NOT_DECIDED", "nobody executes what was not approved"
    await desk.approve()
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"
    for other in ({"content_hash": OTHER_HASH}, {"movement": movement(ann=61, bob=39)}):
        assert await desk.execute(**other) == "MOVEMENT_NOT_DECIDED"
    assert await desk.execute(validate_only=True) == ""
    assert await desk.check() == "MOVEMENT_NOT_DECIDED", "whoever only asks whether it could be executes nothing"
    assert (await desk.execute(MAKER), await desk.execute(MAKER)) == ("", ""), "to say it twice changes nothing"
    assert await desk.check() == (MAKER.person, CHECKER.person)
    await desk.take_back()
    assert await desk.check() == await desk.execute() == "MOVEMENT_NOT_DECIDED"
    await desk.ask()
    await desk.approve()
    assert await desk.check() == "MOVEMENT_NOT_DECIDED", "what was executed before is not executed now"


async def test_what_was_executed_in_a_session_that_was_ended_is_executed_anew(executing_desk: Desk) -> None:
    desk = executing_desk
    await desk.ask()
    await desk.approve(THIRD)
    await desk.execute(replace(CHECKER, signed_in_at=int(time.time()) - 60))
    assert await desk.check() == (MAKER.person, THIRD.person)
    await end_sessions(desk, "")
    persons, why = await desk.refuse()
    assert persons == [CHECKER.person]
    assert why.endswith(f" {CHECKER.person} said so in a session that was ended.")
    assert await desk.execute(MAKER) == ""
    assert await desk.check() == (MAKER.person, THIRD.person)


@pytest.mark.parametrize(
    ("person", "asked", "refusal"),
    [
        (MAKER, {}, "MAKER_IS_CHECKER"),
        (MAKER_AGAIN, {}, "MAKER_IS_CHECKER"),
        (CHECKER, {"makers": [CHECKER.person]}, "MAKER_IS_CHECKER"),
        (CHECKER, {"content_hash": OTHER_HASH}, "CONTENT_CHANGED"),
        (CHECKER, {"movement": movement(ann=61, bob=39)}, "CONTENT_CHANGED"),
    ],
)
async def test_whoever_may_not_approve_decides_nothing(
    desk: Desk, person: Principal, asked: dict[str, Any], refusal: str
) -> None:
    await desk.ask(**asked)
    assert await desk.approve(person) == refusal
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"


async def test_nobody_approves_what_a_party_gains_that_they_act_for(desk: Desk) -> None:
    party = await desk.harness.create()
    await desk.harness.add(CHECKER.person)
    await desk.ask(beneficiary_party_ids=[party.party_id])
    assert await desk.approve(CHECKER) == "BENEFICIARY_IS_CHECKER"
    assert await desk.approve(THIRD) == ""


async def test_whoever_asks_for_something_else_takes_back_what_was_approved(desk: Desk) -> None:
    await desk.ask()
    await desk.approve()
    desk.wait()
    await desk.ask(content_hash=OTHER_HASH)
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"
    assert await desk.approve() == "CONTENT_CHANGED"
    await desk.ask()  # as it was at first, and still it is to be approved anew
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"
    assert await desk.approve(THIRD) == ""
    assert await desk.check() == (MAKER.person, THIRD.person)


async def test_what_was_taken_back_is_decided_once_two_persons_say_it_again(desk: Desk) -> None:
    await desk.ask()
    await desk.approve()
    await desk.take_back()
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"
    assert await desk.approve(THIRD) == "CONTENT_CHANGED"
    await desk.ask()
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"
    await desk.approve(THIRD)
    assert await desk.check() == (MAKER.person, THIRD.person)


@pytest.mark.parametrize("of_approved", [False, True])
@pytest.mark.parametrize("is_approved", [False, True])
async def test_what_was_asked_for_is_taken_back_by_a_person_and_not_on_a_service_s_word(
    executing_desk: Desk, is_approved: bool, of_approved: bool
) -> None:
    """Whoever has the key of distributions names a person; what it says is then its own."""
    desk = executing_desk
    assert await desk.take_back(after_refusal=False, token="") == "", "nobody asked for anything"
    await desk.ask()
    if is_approved:
        assert await desk.approve() == ""
        desk.wait()
    with capture_logs() as logged:
        taken_back = await desk.take_back(after_refusal=False, of_approved=of_approved, token="")
    assert (taken_back, logged[-1]["event"]) == ("PERMISSION_DENIED", "withdrawal_by_nobody")
    assert is_approved or await desk.approve() == "", "it still waits"
    assert await desk.execute() == "", "it still counts"
    with capture_logs() as logged:
        assert await desk.take_back(token="") == "", "it was refused, says the service"
    assert (logged[-1]["event"], logged[-1]["principal"]) == ("movement_given_up", "service:distributions")
    async with desk.harness.database.begin_for_all() as tx:
        query = sa.select(statements.c.person_id).where(statements.c.resource_id == desk.resource_id)
        said_by = set(await tx.scalars(query.where(statements.c.act == "WITHDRAWAL")))
    assert said_by == {"service:distributions"}


@pytest.mark.parametrize("kind", ["CLOSE_OFFERING", "APPROVE_DISTRIBUTION"])
async def test_what_is_just_being_done_is_taken_back_only_where_it_was_refused(
    compliance: ComplianceHarness, kind: str
) -> None:
    """Whoever takes it back read it before: what they say comes between the last word and the deed."""
    desk = Desk(compliance, kind)
    await desk.ask()
    await desk.approve()
    if kind == "APPROVE_DISTRIBUTION":
        assert await desk.take_back(after_refusal=False) == "JUST_DECIDED", "they had read that it waits"
        sent_back = await desk.take_back(after_refusal=False, of_approved=True)
        assert sent_back == "", "it is sent back as long as nobody executes it"
        await desk.ask()
        await desk.approve()
        await desk.execute()
    assert await desk.take_back(after_refusal=False) == "JUST_DECIDED"
    assert await desk.take_back(after_refusal=False, of_approved=True) == "JUST_DECIDED"
    with pytest.raises(JustDecided):  # nor is anything else asked for in its place
        await desk.ask(THIRD, content_hash=OTHER_HASH)
    await desk.ask(THIRD)  # the same is nothing else
    desk.wait()
    assert await desk.check() != "MOVEMENT_NOT_DECIDED"
    assert await desk.take_back(after_refusal=False) == "", "whoever was to do it did not begin"
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"


async def test_two_persons_who_ask_for_the_same_may_approve_what_the_other_asked_for(desk: Desk) -> None:
    await desk.ask(MAKER)
    await desk.ask(CHECKER)
    assert await desk.approve(MAKER) == ""
    assert await desk.check() == (CHECKER.person, MAKER.person)


# What moves is worth 1.00: a cent more is a movement of another size.
RULES = ApprovalPolicy(
    organizations={
        ORG: (ApprovalRule(kinds={"CLOSE_OFFERING"}, currency_code="USD", amount_minor_from=100, approvers_needed=2),)
    }
)


async def test_compliance_itself_counts_the_persons_that_the_rules_want_for_what_moves(desk: Desk) -> None:
    desk.harness.database.policy = RULES
    await desk.ask()
    assert (await desk.approve(), await desk.approve()) == ("", ""), "to say it twice changes nothing"
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"
    assert await desk.approve(MAKER) == "MAKER_IS_CHECKER"
    assert await desk.approve(THIRD) == ""
    assert await desk.check() == (MAKER.person, CHECKER.person, THIRD.person)
    desk.wait()
    less = movement(ann=60, bob=39)
    await desk.ask(movement=less)
    assert await desk.approve(movement=less) == ""
    assert await desk.check(movement=less) == (MAKER.person, CHECKER.person)


@pytest.mark.parametrize("when", ["asked", "approved"])
async def test_what_the_rules_wanted_when_it_was_asked_or_approved_counts_whatever_they_say_later(
    desk: Desk, when: str
) -> None:
    desk.harness.database.policy = RULES if when == "asked" else NO_POLICY
    await desk.ask()
    desk.harness.database.policy = RULES if when == "approved" else NO_POLICY
    await desk.approve()
    desk.harness.database.policy = NO_POLICY
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"


async def test_what_was_decided_is_good_for_a_week_and_what_was_asked_for_as_long_as_the_rules_say(desk: Desk) -> None:
    clock = desk.harness.clock
    desk.harness.database.policy = ApprovalPolicy(all_organizations=(ApprovalRule(valid_for_hours=2),))
    await desk.ask()
    clock.advance(timedelta(hours=2))
    assert await desk.approve() == "APPROVAL_EXPIRED"
    await desk.ask()
    assert await desk.approve() == ""
    clock.advance(VALIDITY - timedelta(seconds=1))
    assert await desk.check() == (MAKER.person, CHECKER.person)
    clock.advance(timedelta(seconds=1))
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"


async def test_a_yes_to_what_expired_is_none_to_the_same_when_it_is_asked_for_again(desk: Desk) -> None:
    desk.harness.database.policy = RULES
    await desk.ask()
    await desk.approve()
    desk.harness.clock.advance(VALIDITY)
    await desk.ask()
    await desk.approve(THIRD)
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"


async def gain(desk: Desk, party_id: str) -> None:
    await desk.harness.add(CHECKER.person, party_id=party_id)


async def end_sessions(desk: Desk, _: str) -> None:
    await end_sessions_of(desk, CHECKER)


async def end_sessions_of(desk: Desk, person: Principal) -> None:
    request = parties_pb2.EndSessionsRequest(idempotency_key=new_id("key"), person_id=person.person)
    with acting_as(THIRD):
        await desk.harness.parties.EndSessions(request, None)


# A minute ago; and with an API key that is not there any more.
SIGNED_IN = replace(MAKER, signed_in_at=int(time.time()) - 60)
PROGRAM = replace(MAKER, api_key=SignedInKey(new_id("key"), frozenset({"DISTRIBUTIONS_WRITE"}), "secret-1"))


@pytest.mark.parametrize("who", [SIGNED_IN, PROGRAM], ids=["a person", "a program"])
async def test_nobody_approves_what_was_asked_for_in_a_session_that_was_ended(desk: Desk, who: Principal) -> None:
    await desk.ask(who)
    await end_sessions_of(desk, who)
    assert await desk.approve() == "MAKER_SESSION_ENDED"
    await desk.ask(THIRD)
    assert await desk.approve() == ""
    assert await desk.check() == (THIRD.person, CHECKER.person)


async def test_what_was_asked_for_in_a_session_that_was_ended_does_not_move_though_it_was_approved(desk: Desk) -> None:
    await desk.ask(SIGNED_IN)
    assert await desk.approve() == ""
    await end_sessions_of(desk, SIGNED_IN)
    persons, why = await desk.refuse()
    assert persons == [MAKER.person]
    assert why.endswith(f" {MAKER.person} asked for it in a session that was ended.")
    await desk.ask(THIRD)
    assert await desk.check() == "MOVEMENT_NOT_DECIDED", "the yes was to what the other asked for"


async def test_whoever_asked_in_a_session_that_was_ended_took_back_all_the_same_what_was_approved(desk: Desk) -> None:
    await desk.ask()
    await desk.approve()
    desk.wait()
    await desk.ask(SIGNED_IN, content_hash=OTHER_HASH)
    await end_sessions_of(desk, SIGNED_IN)
    assert await desk.check() == "MOVEMENT_NOT_DECIDED"


@pytest.mark.parametrize("meanwhile", [gain, end_sessions])
async def test_who_may_approve_no_longer_when_money_is_to_move_has_approved_nothing_and_is_named(
    desk: Desk, meanwhile: Callable[[Desk, str], Awaitable[None]]
) -> None:
    party = await desk.harness.create()
    await desk.ask(beneficiary_party_ids=[party.party_id])
    assert await desk.approve(replace(CHECKER, signed_in_at=int(time.time()) - 60)) == ""
    await meanwhile(desk, party.party_id)
    assert (await desk.refuse())[0] == [CHECKER.person]
    assert await desk.approve(THIRD) == ""
    assert await desk.check() == (MAKER.person, THIRD.person)


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda row: row | {"statement_id": new_id("stm"), "act": "APPROVAL"}, id="a seal of another row"),
        pytest.param(lambda row: row | {"statement_id": new_id("stm"), "act": "APPROVAL", "seal": None}, id="no seal"),
    ],
)
async def test_a_statement_that_sql_wrote_decides_nothing(
    desk: Desk, forge: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    await desk.ask()
    async with desk.harness.database.begin_for_all() as tx:
        [row] = await tx.execute(sa.select(statements).where(statements.c.resource_id == desk.resource_id))
        forged = forge(dict(row._mapping)) | {"person_id": CHECKER.person, "makers": [], "created_at": START}
        await tx.execute(sa.insert(statements).values(**forged))
    with pytest.raises(NotSealed):
        await desk.check()
