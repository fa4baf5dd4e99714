"""One inbox for what every service keeps: looked at and decided through compliance, in the person's own name."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2 as pb
from realco.escrow.v1 import journal_pb2
from realco.type.v1 import approval_pb2
from realco.type.v1.sort_pb2 import Sort

from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.answer import begin_answer, is_replayed
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.database import Database
from services.chassis.values.approval import ApprovalNotFound
from services.chassis.values.errors import AnswerWithheld, DomainError, Unavailable
from services.compliance.approvals import build_approvals
from services.compliance.inbox import Inbox
from tests.support.approvals import effects_of
from tests.support.compliance import build_dependencies
from tests.support.escrow import Escrow, key, new_entry
from tests.support.peers.wire import Wire
from tests.support.persons import Persons
from tests.support.seals import SEALS

S = approval_pb2.Approval


class Desk:
    """Escrow with its approvals, and compliance's inbox before it, on a wire."""

    def __init__(self, escrow: Escrow, database: Database) -> None:
        self.escrow = escrow
        self.wire = Wire("compliance")
        self.kept = ApprovalsServicer(escrow.dependencies, escrow.approvals, Persons())
        own = build_dependencies(database, escrow.clock)
        inbox = ApprovalsServicer(own, build_approvals(own), Persons())
        self.inbox = Inbox(inbox, [self.wire.open_channel(self.kept)])

    def person(self, name: str, role: str = "admin") -> Principal:
        return Principal(name, role, self.escrow.org_id)

    async def ask(self, account: str, minor: int = 100) -> S:
        wanted = new_entry(("cash", minor), ("suspense", -minor))
        request = journal_pb2.PostJournalEntryRequest(
            idempotency_key=key(), escrow_account_id=account, journal_entry=wanted
        )
        return await self.escrow.ask("PostJournalEntry", request)

    async def call(self, rpc: str, request, who: str = "admin-2", role: str = "admin"):
        with acting_as(self.person(who, role)):
            return await getattr(self.inbox, rpc)(request, None)

    async def list_ids(self, **asked) -> tuple[list[str], pb.ListApprovalsResponse]:
        answer = await self.call("ListApprovals", pb.ListApprovalsRequest(**asked))
        return [one.approval_id for one in answer.approvals], answer


@pytest.fixture
async def desk(service_urls):
    urls = await service_urls("compliance")
    database = Database(urls.app_url, urls.worker_url, "compliance", SEALS)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.dispose)
        yield Desk(await stack.enter_async_context(Escrow(await service_urls("escrow"))), database)


def grant_of(approval: S) -> pb.ApproveApprovalRequest:
    return pb.ApproveApprovalRequest(
        idempotency_key=key(),
        approval_id=approval.approval_id,
        content_hash=approval.content_hash,
        etag=approval.etag,
    )


async def test_a_second_person_sees_the_effect_and_has_it_booked(desk):
    account = await desk.escrow.open()
    asked = await desk.ask(account)
    read = await desk.call("GetApproval", pb.GetApprovalRequest(approval_id=asked.approval_id))
    assert effects_of(read) == {"CASH": (0, 100), "SUSPENSE": (0, 100)}
    assert await desk.escrow.posted(account) == {}
    done = await desk.call("ApproveApproval", grant_of(read))
    assert (done.status, await desk.escrow.posted(account)) == (S.EXECUTED, {"cash": 100, "suspense": 100})
    [entry] = await desk.escrow.journal()
    assert (entry.created_by, done.decided_by) == ("admin-1", "admin-2")
    assert done.result_id == entry.journal_entry_id


@pytest.mark.parametrize(
    ("who", "role", "reason"),
    [("admin-1", "admin", "MAKER_IS_CHECKER"), ("auditor", "auditor", "PERMISSION_DENIED")],
)
async def test_who_may_not_decide_at_escrow_may_not_decide_by_way_of_compliance(desk, who, role, reason):
    account = await desk.escrow.open()
    asked = await desk.ask(account)
    with pytest.raises(DomainError) as refused:
        await desk.call("ApproveApproval", grant_of(asked), who, role)
    assert (refused.value.reason, await desk.escrow.posted(account)) == (reason, {})


@pytest.mark.parametrize("is_as_it_was_read", [True, False])
async def test_a_decision_repeated_by_the_same_key_says_so_by_way_of_compliance(desk, is_as_it_was_read):
    grant = grant_of(await desk.ask(await desk.escrow.open()))
    if not is_as_it_was_read:
        grant.content_hash = "0" * 64

    async def decide() -> tuple[str, bool]:
        begin_answer()
        try:
            answer = S.Status.Name((await desk.call("ApproveApproval", grant)).status)
        except DomainError as refusal:
            answer = refusal.reason
        return answer, is_replayed()

    answer = "EXECUTED" if is_as_it_was_read else "CONTENT_CHANGED"
    assert [await decide(), await decide()] == [(answer, False), (answer, True)]


async def test_a_list_is_cut_into_pages_both_ways(desk):
    account = await desk.escrow.open()
    ids = []
    for _ in range(5):
        ids.insert(0, (await desk.ask(account)).approval_id)
        await desk.escrow.pass_time(seconds=1)
    first, answer = await desk.list_ids(page_size=2)
    second, answer = await desk.list_ids(page_size=2, page_token=answer.next_page_token)
    third, last = await desk.list_ids(page_size=2, page_token=answer.next_page_token)
    assert (first + second + third, last.next_page_token) == (ids, "")
    back, answer = await desk.list_ids(page_size=2, page_token=last.previous_page_token)
    assert (back, bool(answer.previous_page_token)) == (second, True)


async def test_what_nobody_keeps_is_not_found_and_what_cannot_be_asked_is_not_known(desk):
    nobody = pb.GetApprovalRequest(approval_id="apr_" + "0" * 26)
    with pytest.raises(ApprovalNotFound):
        await desk.call("GetApproval", nobody)
    with desk.wire.cut(desk.kept), pytest.raises(Unavailable):
        await desk.call("GetApproval", nobody)


async def test_what_the_service_that_keeps_it_did_not_write_is_named_and_not_said_to_be_away(desk):
    asked = await desk.ask(await desk.escrow.open())
    async with desk.escrow.database.begin_for_all() as tx:
        await tx.execute(sa.text("UPDATE approvals SET signed_in_at = 1, version = version + 1"))
    with pytest.raises(AnswerWithheld) as refused:
        await desk.call("GetApproval", pb.GetApprovalRequest(approval_id=asked.approval_id))
    assert refused.value.metadata == {"row": f"approvals {desk.escrow.org_id} {asked.approval_id}"}


@pytest.mark.parametrize("order", [Sort.NEWEST_FIRST, Sort.OLDEST_FIRST])
@pytest.mark.parametrize("hidden", [0, 1, 2, 3])
async def test_what_a_service_leaves_out_of_its_page_hides_nothing_of_the_others_nor_ends_the_list(
    desk: Desk, order: int, hidden: int
):
    """A login makes a row unreadable: the page of that service is shorter, and there is more behind it."""
    account = await desk.escrow.open()
    asked = [(await desk.ask(account, minor)).approval_id for minor in range(1, 5)]
    altered = asked.pop(hidden)
    async with desk.escrow.database.begin_for_all() as tx:
        alter = "UPDATE approvals SET note = 'x', version = version + 1 WHERE approval_id = $1"
        await tx.driver.execute(alter, altered)
    seen, token = list[str](), ""
    for _ in range(6):
        ids, answer = await desk.list_ids(page_size=1, page_token=token, order=order)
        seen += ids
        token = answer.next_page_token
        if not token:
            break
    assert seen == (asked if order == Sort.OLDEST_FIRST else asked[::-1])
