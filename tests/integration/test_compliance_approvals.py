"""Nobody clears a party, lets somebody act for it or lifts a limit alone: tried as persons would try it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import parties_pb2
from realco.type.v1 import approval_pb2, money_pb2

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.values.approval import ApprovalNotCancellable, ApprovalNotFound, NotAMaker
from services.chassis.values.errors import InvalidField, PermissionDenied
from services.chassis.values.etags import etag_of
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import ContentOutdated, IllegalStatusChange, MakerIsChecker
from services.chassis.values.second_person import BeneficiaryIsChecker
from services.compliance.jobs import build_jobs
from tests.support.compliance import CHECKER, MAKER, ORG, ComplianceHarness, build_dependencies

S = approval_pb2.Approval
_CHECK = pb.ComplianceCheck
_PARTY = parties_pb2.Party
THIRD = Principal("admin-3", "admin", ORG)
SPONSOR = Principal("sponsor-staff-1", "sponsor", ORG)


class Desk(ComplianceHarness):
    """The service, and the inbox of its approvals."""

    async def decide(self, approval: S, verb: str = "Approve", principal: Principal = CHECKER, **more: Any) -> S:
        """What a person decides on the approval as it is now, by its id."""
        read = await self.read(approval, principal)
        if verb == "Approve":
            kept = {"idempotency_key": new_id("key"), "content_hash": read.content_hash, "note": "Passport seen."}
            more = {**kept, **more}
        if verb == "Reject":
            more = {"note": "No passport.", **more}
        request = getattr(approvals_pb2, f"{verb}ApprovalRequest")(approval_id=read.approval_id, etag=read.etag, **more)
        with acting_as(principal):
            return await getattr(self.inbox, f"{verb}Approval")(request, None)

    async def read(self, approval: S, principal: Principal = CHECKER) -> S:
        with acting_as(principal):
            request = approvals_pb2.GetApprovalRequest(approval_id=approval.approval_id)
            return await self.inbox.GetApproval(request, None)

    async def list_approvals(self, principal: Principal = CHECKER, **filters: Any) -> list[S]:
        with acting_as(principal):
            request = approvals_pb2.ListApprovalsRequest(**filters)
            return list((await self.inbox.ListApprovals(request, None)).approvals)

    async def list_waiting(self) -> list[S]:
        return await self.list_approvals(status=[S.PENDING])

    async def about(self, check: pb.ComplianceCheck) -> S:
        [found] = await self.list_approvals(resource_id=[check.compliance_check_id])
        return found

    async def ask_for(self, person: str, **more: Any) -> S:
        request = parties_pb2.AddPartyPersonRequest(party_id=self.party_id, person_id=person, **more)
        with acting_as(MAKER):
            return (await self.parties.AddPartyPerson(request, None)).approval


@pytest.fixture
async def desk(service_database):
    return Desk(await service_database("compliance"))


def person(name: str, title: str | None = None) -> parties_pb2.CreatePartyRequest.Person:
    return parties_pb2.CreatePartyRequest.Person(person_id=name, title=title)


# --- checks -----------------------------------------------------------------------------------------------------------


async def test_checks_that_wait_stand_in_the_inbox_with_all_that_is_known_of_the_party(desk):
    party = await desk.create(persons=[person("auth0|ann", "Trustee")])
    waiting = await desk.list_waiting()
    checks = await desk.waiting(party.party_id)
    assert {one.resource_id for one in waiting} == {one.compliance_check_id for one in checks}
    for one in waiting:
        read = await desk.read(one)
        assert (read.kind, list(read.makers)) == ("REVIEW_COMPLIANCE_CHECK", [MAKER.person])
        assert list(read.beneficiary_party_ids) == [party.party_id]
        assert not read.HasField("expire_time")
        assert [(change.before, change.after) for change in read.changes] == [("MANUAL_REVIEW", "PASSED")]
        assert [each.statement for each in read.explanations] == [
            "This is the party now: “Ada Park”.",
            "“auth0|ann” waits to act for it.",
        ]
        assert "Ada Park" in read.content
        assert "auth0|ann" in read.content


async def test_whoever_passes_a_party_or_lets_somebody_act_for_it_is_told_of_others_whose_names_read_the_same(desk):
    """The oldest first, of so many and no more; not of those of other organizations, nor of the party itself."""
    await desk.create(Principal("admin-9", "admin", "org-b"), legal_name="Acme Contractors LLC")
    first = await desk.create(legal_name="Acme Contractors LLC")
    [check, _] = await desk.waiting(first.party_id)
    assert "PARTY_LOOK_ALIKE" not in {each.rule for each in (await desk.read(await desk.about(check))).explanations}
    await desk.create(legal_name="Acme Contractor LLC")
    others = [first, *[await desk.create(legal_name=f"{letter}cme Contractors, LLC") for letter in "\u0410" * 10]]
    looked = await desk.create(legal_name="Acme Contractors LLC")
    [check, _] = await desk.waiting(looked.party_id)
    for asked in (await desk.about(check), await desk.ask_for("ann")):
        told = [each for each in (await desk.read(asked)).explanations if each.rule == "PARTY_LOOK_ALIKE"]
        assert [each.operands[0].value for each in told] == [*(each.party_id for each in others[:10]), "1"]
        assert told[0].statement.endswith(f"{first.party_id}, which is there since 2024-12-03, has the same name.")
        assert told[1].statement.endswith(" has a name that reads the same: “\u0410cme Contractors, LLC”.")
        assert told[-1].statement == "More parties that were added later have names that read the same: 1."


async def test_a_party_that_is_renamed_reads_like_others_by_its_new_name(desk):
    first = await desk.create(legal_name="Ann Lee")
    await desk.create(legal_name="Bo Li")
    await desk.update(legal_name="Ann L\u00e9e")
    [check, _] = await desk.waiting(desk.party_id)
    told = [each for each in (await desk.read(await desk.about(check))).explanations if each.rule == "PARTY_LOOK_ALIKE"]
    assert [each.operands[0].value for each in told] == [first.party_id]


async def test_events_of_what_waits_name_nobody(desk):
    await desk.create(persons=[person("auth0|ann", "Trustee of Ada Park")])
    assert "Ada Park" not in str(await desk.list_events())


async def test_what_is_approved_in_the_inbox_passes_the_check_in_the_reviewer_s_name(desk):
    await desk.create()
    for one in await desk.list_waiting():
        done = await desk.decide(one)
        assert (done.status, done.decided_by) == (S.EXECUTED, CHECKER.person)
        assert done.result_id == one.resource_id
        check = await desk.get_check(one.resource_id)
        assert (check.status, check.reviewed_by) == (_CHECK.PASSED, CHECKER.person)
        assert check.note == done.note == "Passport seen."
    assert (await desk.get()).cleared


async def test_no_check_is_passed_in_the_inbox_without_a_word_on_what_evidence(desk):
    await desk.create()
    one = (await desk.list_waiting())[0]
    with pytest.raises(InvalidField) as refused:
        await desk.decide(one, note=None)
    assert refused.value.fields == {"note": "is required"}
    assert (await desk.read(one)).status == S.PENDING


async def test_what_is_rejected_in_the_inbox_fails_the_check_for_that_reason(desk):
    await desk.create()
    one = (await desk.list_waiting())[0]
    assert (await desk.decide(one, "Reject")).status == S.REJECTED
    check = await desk.get_check(one.resource_id)
    assert (check.status, check.reviewed_by, check.note) == (_CHECK.FAILED, CHECKER.person, "No passport.")


@pytest.mark.parametrize(("decision", "status"), [(_CHECK.PASSED, S.EXECUTED), (_CHECK.FAILED, S.REJECTED)])
async def test_a_review_by_its_own_route_settles_what_waits_in_the_inbox(desk, decision, status):
    await desk.create()
    [check, _] = await desk.waiting()
    await desk.review(check.compliance_check_id, decision=decision)
    settled = await desk.about(check)
    assert (settled.status, settled.decided_by) == (status, CHECKER.person)
    assert settled.note == (await desk.get_check(check.compliance_check_id)).note
    with pytest.raises(IllegalStatusChange):
        await desk.decide(settled)


async def test_a_changed_fact_takes_back_what_was_asked_and_asks_anew(desk):
    await desk.create()
    former = await desk.list_waiting()
    await desk.update(legal_name="Ada Parker")
    assert {(await desk.read(one)).status for one in former} == {S.CANCELLED}
    for one in await desk.list_waiting():
        read = await desk.read(one)
        assert "Ada Parker" in read.content
        why, *_ = read.explanations
        assert why.statement == "The party's facts changed: legal name."
        await desk.decide(one)
    assert (await desk.get()).cleared


async def test_a_decision_in_the_inbox_and_a_change_of_the_name_at_once_never_leave_the_new_name_cleared(desk):
    for _ in range(5):
        party = await desk.create()
        decisions = [desk.decide(one) for one in await desk.list_waiting()]
        change = desk.update(etag=party.etag, legal_name="Ada Parker")
        outcomes = await asyncio.gather(*decisions, change, return_exceptions=True)
        assert {type(one).__name__ for one in outcomes} <= {"Approval", "Party", "EtagMismatch", "IllegalStatusChange"}
        read = await desk.get()
        assert (read.legal_name, read.cleared) == ("Ada Parker", False)
        waiting = await desk.list_waiting()
        assert len(waiting) == 2
        for one in waiting:
            await desk.decide(one)
        assert (await desk.get()).cleared


async def test_an_answer_that_ran_out_is_asked_again_in_the_inbox(desk):
    await desk.clear()
    [check, _] = await desk.list_checks()
    desk.clock.advance(check.expire_time.ToDatetime() - check.review_time.ToDatetime())
    [job, _] = build_jobs(build_dependencies(desk.database, desk.clock))
    assert await job.run() == 2
    assert MAKER.person in (await desk.list_waiting())[0].makers
    for one in await desk.list_waiting():
        await desk.decide(one)
    assert (await desk.get()).cleared


async def test_no_party_passes_its_own_check_by_either_way(desk):
    """Whoever acts for it is no other person, whatever account that person uses here."""
    await desk.create(persons=[person(CHECKER.person)])
    for check in await desk.waiting():
        assert list((await desk.get_check(check.compliance_check_id, CHECKER)).allowed_actions) == []
        for decision in (_CHECK.PASSED, _CHECK.FAILED):
            with pytest.raises(BeneficiaryIsChecker):
                await desk.review(check.compliance_check_id, CHECKER, decision)
        for verb in ("Approve", "Reject"):
            with pytest.raises(BeneficiaryIsChecker):
                await desk.decide(await desk.about(check), verb, CHECKER)
        assert (await desk.about(check)).status == S.PENDING
        await desk.decide(await desk.about(check), principal=THIRD)
    assert (await desk.get()).cleared


async def test_no_maker_passes_or_takes_back_a_check_in_the_inbox(desk):
    await desk.create()
    await desk.update(CHECKER, legal_name="Ada Parker")
    for one in await desk.list_waiting():
        for maker in (MAKER, CHECKER):
            assert list((await desk.read(one, maker)).allowed_actions) == ["comment"]
            for verb in ("Approve", "Reject"):
                with pytest.raises(MakerIsChecker):
                    await desk.decide(one, verb, maker)
            with pytest.raises(ApprovalNotCancellable):
                await desk.decide(one, "Cancel", maker)
        await desk.decide(one, principal=THIRD)


async def test_who_may_not_see_checks_sees_none_of_them_in_the_inbox_and_decides_none(desk):
    await desk.create()
    [one, _] = await desk.list_waiting()
    assert await desk.list_approvals(SPONSOR) == []
    etag, content = etag_of(one.approval_id, 1), one.content_hash
    decisions = [
        ("Approve", {"idempotency_key": "a", "content_hash": content, "note": "Seen."}),
        ("Reject", {"idempotency_key": "r", "note": "No."}),
        ("Comment", {"idempotency_key": "c", "text": "Why?"}),
        ("Cancel", {}),
    ]
    with acting_as(SPONSOR):
        for verb, more in decisions:
            request = getattr(approvals_pb2, f"{verb}ApprovalRequest")(approval_id=one.approval_id, etag=etag, **more)
            with pytest.raises(ApprovalNotFound):
                await getattr(desk.inbox, f"{verb}Approval")(request, None)
    assert (await desk.read(one)).etag == etag


async def test_who_may_not_ask_for_it_does_not_decide_it_in_the_inbox_either(desk):
    await desk.create()
    asked = await desk.ask_for("bob")
    assert list((await desk.read(asked, SPONSOR)).allowed_actions) == ["comment"]
    for verb in ("Approve", "Reject"):
        with pytest.raises(PermissionDenied):
            await desk.decide(asked, verb, SPONSOR)


# --- persons ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["cleo", "CLEO"])
async def test_a_person_is_named_once(desk, again):
    with pytest.raises(InvalidField) as refused:
        await desk.create(persons=[person("cleo"), person(again, "Trustee")])
    assert set(refused.value.fields) == {"persons"}


async def test_nobody_lets_a_person_act_for_a_party_alone(desk):
    await desk.create()
    await desk.add("auth0|ann")
    asked = await desk.ask_for("auth0|bob", title="Manager")
    assert (asked.kind, asked.status) == ("ADD_PARTY_PERSON", S.PENDING)
    assert await desk.list_persons() == ["auth0|ann"]
    with pytest.raises(MakerIsChecker):
        await desk.decide(asked, principal=MAKER)
    read = await desk.read(asked)
    assert [(one.field, one.HasField("before"), one.after) for one in read.changes] == [
        ("person_id", False, "auth0|bob"),
        ("title", False, "Manager"),
    ]
    done = await desk.decide(asked)
    assert (done.status, done.result_id) == (S.EXECUTED, desk.party_id)
    assert await desk.list_persons() == ["auth0|ann", "auth0|bob"]


@pytest.mark.parametrize("spell", [str, str.upper])
async def test_neither_who_is_added_nor_who_acts_for_the_party_approves_it(desk, spell):
    await desk.create()
    await desk.add(spell(THIRD.person))
    asked = await desk.ask_for(spell(CHECKER.person))
    with pytest.raises(MakerIsChecker):
        await desk.decide(asked, principal=CHECKER)
    with pytest.raises(BeneficiaryIsChecker):
        await desk.decide(asked, principal=THIRD)
    assert await desk.list_persons() == [THIRD.person]


async def test_one_person_takes_the_right_away(desk):
    await desk.create()
    await desk.add("auth0|ann")
    await desk.remove("auth0|ann")
    assert await desk.list_persons() == []


async def test_an_older_yes_does_not_give_back_what_was_taken_from_a_person_since(desk):
    await desk.create()
    await desk.add("auth0|ann")
    first = await desk.ask_for("mallory", idempotency_key="a")
    second = await desk.ask_for("Mallory", idempotency_key="b")
    other = await desk.ask_for("auth0|bob")
    await desk.decide(first)
    await desk.remove("mallory")
    with pytest.raises(IllegalStatusChange):
        await desk.decide(second)
    assert await desk.list_persons() == ["auth0|ann"]
    assert (await desk.read(other)).status == S.PENDING
    again = await desk.read(await desk.ask_for("mallory"))
    assert again.content_hash not in (first.content_hash, second.content_hash), "it says that it was taken away"
    assert [(one.field, one.before) for one in again.changes[1:]] == [
        ("remove_time", desk.clock.now().isoformat().replace("+00:00", "Z")),
        ("removed_by", MAKER.person),
    ]


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_nobody_sets_a_limit_alone(desk):
    default = await find_daily(desk)
    request = pb.PutTransactionLimitRequest(
        type=default.type,
        amount=money_pb2.Money(currency_code="USD", amount_minor=900_000_00),
        etag=default.etag,
    )
    with acting_as(MAKER):
        asked = (await desk.servicer.PutTransactionLimit(request, None)).approval
    assert await find_daily(desk) == default
    with pytest.raises(MakerIsChecker):
        await desk.decide(asked, principal=MAKER)
    with pytest.raises(NotAMaker):
        await desk.decide(asked, "Cancel", CHECKER)
    [change] = (await desk.read(asked)).changes
    assert (asked.resource_id, change.before, change.after) == (
        default.transaction_limit_id,
        "50,000.00 USD",
        "900,000.00 USD",
    )
    done = await desk.decide(asked)
    assert done.result_id == default.transaction_limit_id
    assert (await find_daily(desk)).amount.amount_minor == 900_000_00


async def test_a_limit_that_was_changed_meanwhile_is_not_set(desk):
    default = await find_daily(desk)
    amount = money_pb2.Money(currency_code="USD", amount_minor=900_000_00)
    request = pb.PutTransactionLimitRequest(type=default.type, amount=amount, etag=default.etag)
    with acting_as(MAKER):
        asked = (await desk.servicer.PutTransactionLimit(request, None)).approval
    await desk.put_limit(10_00)
    with pytest.raises(ContentOutdated):
        await desk.decide(asked)
    assert (await find_daily(desk)).amount.amount_minor == 10_00


async def test_nobody_takes_a_limit_back_alone(desk):
    own = await desk.put_limit(10_00)
    request = pb.DeleteTransactionLimitRequest(transaction_limit_id=own.transaction_limit_id, etag=own.etag)
    with acting_as(MAKER):
        asked = (await desk.servicer.DeleteTransactionLimit(request, None)).approval
    assert (await find_daily(desk)).etag == own.etag
    [change] = (await desk.read(asked)).changes
    assert (change.before, change.after) == ("10.00 USD", "50,000.00 USD")
    assert (change.before_amount.amount_minor, change.after_amount.amount_minor) == (10_00, 50_000_00)
    assert (await desk.decide(asked)).status == S.EXECUTED
    assert (await find_daily(desk)).is_default


async def find_daily(desk: Desk) -> pb.TransactionLimit:
    return next(one for one in await desk.list_limits() if one.type == pb.TransactionLimit.DAILY_DEPOSIT)
