"""Nobody alone: what needs two persons is asked for by one, decided by another, and done once."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from datetime import timedelta

import pytest
from realco.approvals.v1 import approvals_pb2 as pb
from realco.distributions.v1 import distributions_pb2
from realco.escrow.v1 import holds_pb2

from services.chassis.approvals import messages
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.values.approval import (
    NOBODY,
    VALIDITY,
    ApprovalDetails,
    ApprovalExpired,
    ApprovalNotFound,
    Change,
    NotAMaker,
)
from services.chassis.values.errors import DomainError, InvalidField, Unavailable
from services.chassis.values.etags import EtagMismatch
from services.chassis.values.refusals import ContentChanged, ContentOutdated, IllegalStatusChange, MakerIsChecker
from services.chassis.values.second_person import BeneficiaryIsChecker
from tests.support import chassis
from tests.support.approval_desk import CHECKER, EDITOR, MAKER, OTHER_MAKER, PAYEE, Desk, NotEnough, S


@pytest.fixture
async def desk(urls):
    async with chassis.opened(urls) as database:
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
        request = holds_pb2.CaptureHoldRequest(escrow_account_id="esc_1", hold_id="hold_1", idempotency_key="key-1")
        answer = await desk.approvals.carry_out(request, holds_pb2.CaptureHoldResponse)
    assert (answer.hold.hold_id, await desk.notes()) == ("hold_1", ["captured hold_1"])


async def test_what_could_not_be_done_is_not_asked_for(desk):
    for desk.deed.raises in (NotEnough("Too little."), None):
        with pytest.raises(DomainError) as refusal:
            await desk.ask()
        assert refusal.value.reason == NotEnough.reason, "and stays refused under its key"
    assert await desk.list() == []


async def test_the_content_says_what_is_done_as_well_as_to_what(desk):
    approval = await desk.get(await desk.ask())
    content = json.loads(approval.content)
    assert set(content) == {
        "kind",
        "orgId",
        "request",
        "amount",
        "changes",
        "preconditions",
        "beneficiaryPartyIds",
    }
    assert (content["kind"], content["orgId"], content["request"]["holdId"]) == ("CAPTURE_HOLD", MAKER.org_id, "hold_1")
    assert content["amount"] == {"currencyCode": "USD", "amountMinor": "500"}
    assert hashlib.sha256(approval.content.encode()).hexdigest() == approval.content_hash


async def test_what_would_do_something_else_than_was_read_is_not_done(desk):
    approval = await desk.ask()
    for desk.deed.minor in (501, 500):
        with pytest.raises(DomainError) as refusal:
            await desk.grant(approval)
        assert refusal.value.reason == ContentOutdated.reason, "and stays refused under its key"
    assert ((await desk.get(approval)).status, await desk.notes()) == (S.PENDING, [])


async def test_no_yes_counts_while_nobody_can_say_what_it_would_do(desk):
    approval = await desk.ask()
    desk.deed.minor, desk.deed.describing_raises = 501, Unavailable("It is away.")
    with pytest.raises(Unavailable):
        await desk.grant(approval)
    assert ((await desk.get(approval)).status, await desk.notes()) == (S.PENDING, [])
    desk.deed.describing_raises = None
    with pytest.raises(ContentOutdated):
        await desk.grant(approval)


async def test_what_would_do_something_else_by_the_time_it_can_be_done_has_failed(desk):
    approval = await desk.ask()
    desk.deed.raises = Unavailable("It is away.")
    with pytest.raises(Unavailable):
        await desk.grant(approval)
    desk.deed.raises, desk.deed.minor = None, 501
    await desk.make_due()
    await desk.jobs["resume_approvals"].run()
    found = await desk.get(approval)
    assert (found.status, found.failure.code, await desk.notes()) == (S.FAILED, "CONTENT_OUTDATED", [])


async def test_what_was_done_before_a_crash_is_done_whatever_it_would_do_by_now(desk, monkeypatch):
    approval = await desk.ask()

    async def crash(*_):
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(desk.approvals.executions, "_finish", crash)
        with pytest.raises(ConnectionError):
            await desk.grant(approval)
    assert ((await desk.get(approval)).status, await desk.notes()) == (S.APPROVED, ["captured hold_1"])
    desk.deed.minor = 501
    await desk.make_due()
    await desk.jobs["resume_approvals"].run()
    assert ((await desk.get(approval)).status, await desk.notes()) == (S.EXECUTED, ["captured hold_1"])


async def test_what_is_about_something_that_is_gone_has_failed_once_it_is_approved(desk):
    approval = await desk.ask()
    desk.deed.describing_raises = ApprovalNotFound()
    done = await desk.grant(approval)
    assert (done.status, done.failure.code, await desk.notes()) == (S.FAILED, "APPROVAL_NOT_FOUND", [])


async def test_asking_again_without_a_key_is_answered_with_what_waits(desk):
    asked = await desk.ask(key=None)
    assert (await desk.ask(key=None)).approval_id == asked.approval_id
    assert (await desk.ask(OTHER_MAKER, key=None)).approval_id != asked.approval_id
    assert (await desk.ask(key="key-2")).approval_id != asked.approval_id, "a key of its own is an intent of its own"


async def test_a_rehearsed_yes_says_what_the_deed_would_refuse(desk):
    approval = await desk.ask()
    assert (await desk.grant(approval, validate_only=True)).status == S.APPROVED
    desk.deed.raises = NotEnough("Too little.")
    with pytest.raises(NotEnough):
        await desk.grant(approval, validate_only=True)
    assert ((await desk.get(approval)).status, await desk.notes()) == (S.PENDING, [])


async def test_another_person_has_it_done_in_the_name_of_its_maker(desk):
    approval = await desk.ask()
    done = await desk.grant(approval)
    assert (done.status, done.decided_by, done.result_id) == (S.EXECUTED, CHECKER.person, "hold_1")
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
    approval = await desk.ask(key=None)
    desk.clock.moment += VALIDITY
    # Nobody decides it any more; its status is what the last event said, until the job writes and tells the next one.
    with pytest.raises(ApprovalExpired):
        await desk.grant(approval)
    read = await desk.get(approval)
    assert (read.status, read.etag, read.allowed_actions) == (S.PENDING, approval.etag, [])
    assert await desk.list(status=["PENDING"]) == [approval.approval_id]
    assert await desk.list(decidable=True) == []
    assert (await desk.ask(key=None)).approval_id != approval.approval_id, "asked for again, it is another one"
    assert await desk.jobs["expire_approvals"].run() == 1
    assert await desk.jobs["expire_approvals"].run() == 0
    assert (await desk.get(approval)).status == S.EXPIRED
    assert await desk.list(status=["EXPIRED"]) == [approval.approval_id]


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
    await desk.make_due()
    assert await desk.jobs["resume_approvals"].run() == 1
    assert ((await desk.get(approval)).status, await desk.notes()) == (S.EXECUTED, ["captured hold_1"])


async def test_what_another_worker_does_just_when_it_is_looked_at_has_not_failed(desk):
    """It does something else by then than what was approved, since it is done."""
    approval = await desk.ask()
    desk.deed.raises = Unavailable("It is away.")
    with pytest.raises(Unavailable):
        await desk.grant(approval)
    desk.deed.raises = None

    async def do_it() -> None:
        async with desk.database.begin() as tx:
            found = await desk.approvals.find(tx, approval.approval_id)
        await desk.deed.execute(desk.approvals.requests.read(found))
        desk.deed.minor += 1

    desk.deed.meanwhile.append(do_it)
    await desk.make_due()
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
        request = pb.RejectApprovalRequest(approval_id=approval.approval_id, note="no", etag=approval.etag)
        rejected = await desk.service.RejectApproval(request, None)
    assert (rejected.status, rejected.note) == (S.REJECTED, "no")
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
    mine = await desk.ask(key="a")
    desk.clock.moment += timedelta(minutes=1)
    other = await desk.ask(CHECKER, key="b", hold_id="hold_2")
    desk.clock.moment += timedelta(minutes=1)
    assert await desk.list(from_time=other.create_time) == [other.approval_id]
    assert await desk.list(to_time=other.create_time) == [mine.approval_id]
    assert await desk.list(MAKER, mine=True) == [mine.approval_id]
    assert await desk.list(MAKER, mine=False) == [other.approval_id]
    assert await desk.list(kind=["OTHER"]) == []
    assert await desk.list(currency_code=["EUR"]) == []
    assert len(await desk.list(amount_minor_from=500, currency_code=["USD"])) == 2
    assert await desk.list(amount_minor_from=501, currency_code=["USD"]) == []
    assert len(await desk.list(resource_id=["esc_1"])) == 2
    assert len(await desk.list(scope_id=["esc_2", "esc_1"])) == 2
    assert await desk.list(scope_id=["esc_2"]) == []
    assert await desk.list(created_by=[MAKER.person]) == [mine.approval_id]


@pytest.mark.parametrize("currencies", [[], ["USD", "EUR"]])
async def test_an_amount_is_looked_for_in_one_currency(desk, currencies):
    with pytest.raises(InvalidField) as refused:
        await desk.list(amount_minor_from=500, currency_code=currencies)
    assert list(refused.value.fields) == ["currency_code"]


async def test_what_one_may_decide_is_found_and_the_rest_apart_from_it(desk):
    taken = await desk.ask(key="a")
    await desk.grant(taken)
    waiting = await desk.ask(key="b", hold_id="hold_2")
    auditor = Principal("auditor", "auditor", MAKER.org_id)
    sponsor = dataclasses.replace(CHECKER, role="sponsor")  # who may not capture a hold
    found = [await desk.list(who, decidable=True) for who in (CHECKER, MAKER, EDITOR, sponsor, auditor)]
    assert found == [[waiting.approval_id], [], [], [], []]
    assert await desk.list(decidable=False) == [taken.approval_id]
    desk.clock.moment += VALIDITY
    assert await desk.list(decidable=True) == []
    assert len(await desk.list(decidable=False)) == 2


async def test_what_the_checker_wrote_stands_in_the_approval(desk):
    done = await desk.grant(await desk.ask(), note="The term sheet says so.")
    assert (done.status, done.note) == (S.EXECUTED, "The term sheet says so.")


async def test_another_organization_sees_and_decides_nothing(desk):
    approval = await desk.ask()
    assert await desk.list(chassis.OTHER_ORG) == []
    for attempt in (desk.get(approval, chassis.OTHER_ORG), desk.grant(approval, chassis.OTHER_ORG)):
        with pytest.raises(ApprovalNotFound):
            await attempt


def test_what_a_newer_release_asked_for_waits_for_a_process_that_can_read_it():
    content = json.dumps({"request": {"holdId": "hold_1", "newField": "x"}})
    with pytest.raises(Unavailable, match="newer release"):
        messages.read_content(content, holds_pb2.CaptureHoldRequest, "apr_1")


def test_content_is_spelled_as_rest_spells_it():
    date = {"year": 2026, "month": 1, "day": 2}
    request = distributions_pb2.CreateDistributionRequest(
        idempotency_key="k", offering_id="off_1", type="PROFIT_SPLIT", distribution_date=date
    )
    details = ApprovalDetails("x", "off_1", beneficiary_party_ids=NOBODY, changes=(Change("custodian_name", "a", "b"),))
    content = json.loads(messages.to_content("X", "org_1", request, details, name="request"))
    assert content["request"] == {
        "offeringId": "off_1",
        "type": "PROFIT_SPLIT",
        "distributionDate": "2026-01-02",
        "metadata": {},
    }
    assert content["changes"] == [{"field": "custodianName", "before": "a", "after": "b"}]
