"""Checks of parties on real PostgreSQL: asked, decided by another person, and asked again."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import parties_pb2
from realco.type.v1 import money_pb2
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.values.errors import DomainError
from services.chassis.values.etags import EtagMismatch
from services.chassis.values.refusals import IllegalStatusChange, MakerIsChecker
from services.compliance.domain import clearance
from services.compliance.domain.clearance import RequiredCheck
from services.compliance.jobs import build_jobs
from tests.support.compliance import AUDITOR, CHECK, CHECKER, MAKER, ORG, PARTY, build_dependencies, money_in


async def test_a_new_party_is_not_cleared_until_another_person_passes_both_checks(compliance):
    assert not (await compliance.create()).cleared
    checks = await compliance.waiting(compliance.party_id)
    assert sorted(pb.ComplianceCheck.Type.Name(check.type) for check in checks) == ["KYC", "OFAC"]
    with pytest.raises(DomainError) as refused:
        await compliance.review(checks[0].compliance_check_id, MAKER)
    assert refused.value.reason == "MAKER_IS_CHECKER"
    for check in checks:
        await compliance.review(check.compliance_check_id)
    party = await compliance.get()
    assert party.cleared
    assert not party.missing


async def test_an_answer_expires_after_a_year_and_is_asked_again_once(compliance):
    await compliance.clear()
    compliance.clock.advance(timedelta(days=365))
    [expired] = await compliance.evaluate(money_in(1))
    assert "KYC is EXPIRED" in expired.failure.message
    [job, _] = build_jobs(build_dependencies(compliance.database, compliance.clock))
    assert await job.run() == 2
    assert await job.run() == 0
    waiting = await compliance.waiting(compliance.party_id)
    assert len(waiting) == 2
    for check in waiting:
        await compliance.review(check.compliance_check_id)
    [decision] = await compliance.evaluate(money_in(1))
    assert decision.status == pb.ComplianceCheck.PASSED


async def test_nobody_lifts_the_limits_alone(compliance):
    """Not even by an accreditation: another person is asked first."""
    await compliance.clear()
    await compliance.update(accreditation=PARTY.ACCREDITED)
    [decision] = await compliance.evaluate(money_in(900_000_00))
    assert decision.failure.code == "PARTY_NOT_CLEARED"
    [check] = await compliance.waiting(compliance.party_id)
    with pytest.raises(DomainError, match="a part in making it"):
        await compliance.review(check.compliance_check_id, MAKER)
    await compliance.review(check.compliance_check_id, decision=pb.ComplianceCheck.FAILED)


async def test_a_changed_name_asks_again_and_a_changed_net_worth_does_not(compliance):
    await compliance.clear()
    await compliance.update(net_worth=money_pb2.Money(currency_code="USD", amount_minor=1))
    assert await compliance.waiting(compliance.party_id) == []
    await compliance.update(accreditation=PARTY.ACCREDITED)
    assert len(await compliance.waiting(compliance.party_id)) == 1
    await compliance.update(legal_name="Ada Parker")
    assert len(await compliance.waiting(compliance.party_id)) == 2


async def test_a_review_decides_the_check_that_was_read(compliance):
    await compliance.create()
    check = (await compliance.waiting(compliance.party_id))[0]
    known = {"compliance_check_id": check.compliance_check_id, "etag": check.etag}
    review = pb.ReviewComplianceCheckRequest(**known, decision=pb.ComplianceCheck.PASSED, note="Seen.")
    with acting_as(CHECKER):
        reviewed = await compliance.servicer.ReviewComplianceCheck(review, None)
        assert reviewed.etag != check.etag
        with pytest.raises(EtagMismatch):
            await compliance.servicer.ReviewComplianceCheck(review, None)


async def test_what_a_caller_may_do_is_what_would_not_be_refused(compliance):
    await compliance.create()
    [check, _] = await compliance.waiting(compliance.party_id)
    request = pb.GetComplianceCheckRequest(compliance_check_id=check.compliance_check_id)
    for principal, actions in ((MAKER, []), (CHECKER, ["review"]), (AUDITOR, [])):
        with acting_as(principal):
            assert list((await compliance.servicer.GetComplianceCheck(request, None)).allowed_actions) == actions
    assert len((await compliance.get(CHECKER)).allowed_actions) == 3
    assert list((await compliance.get(AUDITOR)).allowed_actions) == []


@pytest.mark.parametrize(
    ("facts", "asked", "why"),
    [
        ({"legal_name": "Ada Parker"}, ["KYC", "OFAC"], "The party's facts changed: legal name."),
        ({"kind": PARTY.LLC, "legal_name": "Ada"}, ["KYC", "OFAC"], "The party's facts changed: kind, legal name."),
        ({"accreditation": PARTY.ACCREDITED}, ["KYC"], "The party's facts changed: accreditation."),
    ],
)
async def test_an_answer_about_former_facts_counts_no_longer(compliance, facts, asked, why):
    await compliance.clear()
    passed = {_name(check): check for check in await compliance.list_checks(status=[CHECK.PASSED])}
    party = await compliance.update(**facts)
    assert not party.cleared
    assert {line.operands[2].value for line in party.missing} == {why}
    assert sorted(_name(check) for check in await compliance.waiting()) == asked
    for check in await compliance.waiting():
        former = await compliance.get_check(passed[_name(check)].compliance_check_id)
        assert (former.status, former.reviewed_by) == (CHECK.EXPIRED, CHECKER.person)
        assert former.explanation.statement == check.explanation.statement == why
    kept = set(passed) - set(asked)
    assert {_name(check) for check in await compliance.list_checks(status=[CHECK.PASSED])} == kept
    await compliance.review_all()
    assert (await compliance.get()).cleared


async def test_whoever_passes_a_check_reads_all_that_changed_since_it_was_passed(compliance):
    await compliance.clear()
    await compliance.update(accreditation=PARTY.ACCREDITED)
    await compliance.update(legal_name="Ada M. Parker")
    told = {_name(check): check.explanation.statement for check in await compliance.waiting()}
    assert told["KYC"] == "The party's facts changed: accreditation, legal name."
    assert told["OFAC"] == "The party's facts changed: legal name."


async def test_a_check_that_waited_about_former_facts_cannot_be_passed_any_more(compliance):
    await compliance.create()
    old = await compliance.waiting()
    await compliance.update(legal_name="Ada Parker")
    for check in old:
        known = {"compliance_check_id": check.compliance_check_id, "decision": CHECK.PASSED, "note": "Seen."}
        with acting_as(CHECKER), pytest.raises(EtagMismatch):
            await compliance.servicer.ReviewComplianceCheck(
                pb.ReviewComplianceCheckRequest(**known, etag=check.etag), None
            )
        with pytest.raises(IllegalStatusChange):
            await compliance.review(check.compliance_check_id)
    assert len(await compliance.waiting()) == 2


async def test_a_review_and_a_change_of_the_name_at_once_never_leave_the_new_name_cleared(compliance):
    for _ in range(5):
        await compliance.create()
        reviews = [
            compliance.review(check.compliance_check_id) for check in await compliance.waiting(compliance.party_id)
        ]
        etag = (await compliance.get()).etag
        change = compliance.update(etag=etag, legal_name="Ada Parker")
        await asyncio.gather(*reviews, change, return_exceptions=True)
        party = await compliance.get()
        assert (party.legal_name, party.cleared) == ("Ada Parker", False)
        assert len(await compliance.waiting(compliance.party_id)) == 2


async def test_who_wrote_a_fact_does_not_become_its_checker_by_a_later_change_of_another(compliance):
    """Neither by a note of the client's own, nor by another fact: makers add up until somebody has passed them."""
    await compliance.create(MAKER)
    await compliance.update(CHECKER, external_id="crm-1")
    [check, _] = await compliance.waiting()
    with pytest.raises(MakerIsChecker):
        await compliance.review(check.compliance_check_id, MAKER)
    await compliance.update(CHECKER, legal_name="Ada Parker")
    third = Principal("admin-3", "admin", ORG)
    for check in await compliance.waiting():
        for maker in (MAKER, CHECKER):
            with pytest.raises(MakerIsChecker):
                await compliance.review(check.compliance_check_id, maker)
        await compliance.review(check.compliance_check_id, third)
    # What was passed needs no second look: the next change is that of its own maker alone.
    await compliance.update(third, legal_name="Ada Park")
    for check in await compliance.waiting():
        await compliance.review(check.compliance_check_id, MAKER)
    assert (await compliance.get()).cleared


@pytest.mark.parametrize("is_rejected", [False, True], ids=["while it waits", "after somebody rejected it"])
async def test_a_check_that_was_asked_for_in_a_session_that_was_ended_stays_so_until_somebody_names_all_its_facts(
    compliance, is_rejected
):
    writer, other = Principal("admin-3", "admin", ORG, signed_in_at=1), Principal("admin-4", "admin", ORG)
    await compliance.create(writer)
    lost = {check.compliance_check_id for check in await compliance.waiting(compliance.party_id)}
    with acting_as(MAKER):
        ended = parties_pb2.EndSessionsRequest(idempotency_key="ended", person_id=writer.person)
        await compliance.parties.EndSessions(ended, None)
    if is_rejected:
        for check_id in lost:
            await compliance.review(check_id, decision=pb.ComplianceCheck.FAILED)
    beside = [
        {"metadata": {"by": "nobody who vouches for it"}},
        {"legal_name": "Ada Park"},
        {"accreditation": parties_pb2.Party.ACCREDITED},
        {"legal_name": "Ada Parker"},
    ]
    for facts in beside:
        await compliance.update(other, **facts)
        for check in await compliance.waiting(compliance.party_id):
            with pytest.raises(DomainError) as refused:
                await compliance.review(check.compliance_check_id)
            assert refused.value.reason == "MAKER_SESSION_ENDED"
            assert await explain(compliance, check) == "MAKER_SESSION_ENDED"
    asked = await compliance.waiting(compliance.party_id)
    assert [len(asked), {check.explanation.rule for check in asked}] == [2, {"FACTS"}]
    facts = {"kind": parties_pb2.Party.INDIVIDUAL, "legal_name": "Ada Parker", "accreditation": PARTY.ACCREDITED}
    await compliance.update(other, **facts)
    before = (await compliance.get()).etag
    await compliance.update(other, **facts)
    assert (await compliance.get()).etag == before, "to say it once more changes nothing"
    asked = await compliance.waiting(compliance.party_id)
    assert {check.explanation.rule for check in asked} == {"SESSION"}
    for check in asked:
        assert check.compliance_check_id not in lost
        for maker in (Principal(writer.person, "admin", ORG), other):
            with pytest.raises(MakerIsChecker):
                await compliance.review(check.compliance_check_id, maker)
        await compliance.review(check.compliance_check_id)
    assert (await compliance.get()).cleared


async def test_a_colleague_s_change_makes_nobody_forget_who_wrote_the_rest_in_a_session_that_is_ended_later(compliance):
    writer, other = (Principal(name, "admin", ORG, signed_in_at=1) for name in ("admin-3", "admin-4"))
    await compliance.create(writer)
    await compliance.update(other, legal_name="Ada Park")
    with acting_as(MAKER):
        ended = parties_pb2.EndSessionsRequest(idempotency_key="ended", person_id=writer.person)
        await compliance.parties.EndSessions(ended, None)
    for check in await compliance.waiting(compliance.party_id):
        with pytest.raises(DomainError) as refused:
            await compliance.review(check.compliance_check_id)
        assert refused.value.reason == "MAKER_SESSION_ENDED"
        assert await explain(compliance, check) == "MAKER_SESSION_ENDED"
    facts = {"kind": parties_pb2.Party.INDIVIDUAL, "legal_name": "Ada Park", "accreditation": PARTY.ACCREDITED}
    await compliance.update(other, **facts)
    for check in await compliance.waiting(compliance.party_id):
        await compliance.review(check.compliance_check_id)
    assert (await compliance.get()).cleared


async def explain(compliance, check) -> str:
    """The first thing that the inbox says of it."""
    with acting_as(CHECKER):
        about = approvals_pb2.ListApprovalsRequest(resource_id=[check.compliance_check_id])
        [listed] = (await compliance.inbox.ListApprovals(about, None)).approvals
        read = await compliance.inbox.GetApproval(
            approvals_pb2.GetApprovalRequest(approval_id=listed.approval_id), None
        )
    return read.explanations[0].rule


async def test_a_review_says_who_and_when(compliance):
    await compliance.create()
    [check, _] = await compliance.waiting()
    assert not check.HasField("reviewed_by")
    assert not check.HasField("review_time")
    compliance.clock.advance(timedelta(hours=1))
    reviewed = await compliance.review(check.compliance_check_id)
    assert (reviewed.reviewed_by, reviewed.review_time) == (CHECKER.person, reviewed.update_time)
    assert reviewed.review_time.ToDatetime() - reviewed.create_time.ToDatetime() == timedelta(hours=1)


async def test_another_check_is_one_line_of_the_list(compliance, monkeypatch):
    line = RequiredCheck("AML", rests_on=("accreditation",))
    monkeypatch.setattr(clearance, "REQUIRED_CHECKS", (*clearance.REQUIRED_CHECKS, line))
    await compliance.create()
    waiting = {_name(check): check for check in await compliance.waiting()}
    for name in ("KYC", "OFAC"):
        await compliance.review(waiting[name].compliance_check_id)
    party = await compliance.get()
    assert [CHECK.Type.Name(check.type) for check in party.checks] == ["KYC", "OFAC", "AML"]
    assert [line.statement for line in party.missing] == ["AML is MANUAL_REVIEW"]
    assert await compliance.list_names(cleared=True) == []
    await compliance.review(waiting["AML"].compliance_check_id)
    assert (await compliance.get()).cleared
    assert await compliance.list_names(cleared=True) == ["Ada Park"]
    await compliance.update(accreditation=PARTY.ACCREDITED)
    assert sorted(_name(check) for check in await compliance.waiting()) == ["AML", "KYC"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["OFAC EXPIRED", "KYC FAILED", "OFAC MANUAL_REVIEW", "KYC MANUAL_REVIEW"]),
        ({"status": [CHECK.FAILED, CHECK.EXPIRED]}, ["OFAC EXPIRED", "KYC FAILED"]),
        ({"type": [CHECK.OFAC]}, ["OFAC EXPIRED", "OFAC MANUAL_REVIEW"]),
        ({"type": [CHECK.OFAC, CHECK.KYC], "status": [CHECK.FAILED]}, ["KYC FAILED"]),
        ({"type": [CHECK.LIMIT_CHECK]}, []),
    ],
)
async def test_checks_are_found(compliance, filters, found):
    await compliance.create()
    [kyc] = await compliance.list_checks(type=[CHECK.KYC])
    await compliance.review(kyc.compliance_check_id, decision=CHECK.FAILED)
    compliance.clock.advance(timedelta(seconds=1))
    await compliance.update(legal_name="Ada Parker")
    listed = [f"{_name(check)} {CHECK.Status.Name(check.status)}" for check in await compliance.list_checks(**filters)]
    assert sorted(listed) == sorted(found)


async def test_checks_are_listed_in_either_order_within_a_time(compliance):
    await compliance.create()
    early = await compliance.list_checks(order=Sort.OLDEST_FIRST)
    compliance.clock.advance(timedelta(seconds=1))
    await compliance.create()
    every = await compliance.list_checks(order=Sort.OLDEST_FIRST)
    assert every[:2] == early
    assert await compliance.list_checks() == every[::-1]
    begin = every[2].create_time
    assert await compliance.list_checks(from_time=begin) == every[:1:-1]
    assert await compliance.list_checks(to_time=begin) == every[1::-1]
    assert await compliance.list_checks(ids=[every[3].compliance_check_id]) == [every[3]]


def _name(check):
    return CHECK.Type.Name(check.type)
