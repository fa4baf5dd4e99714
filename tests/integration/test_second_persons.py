"""A decision has one rule: by the resource's own route, in the inbox, and in what either offers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1 import compliance_pb2, parties_pb2
from realco.distributions.v1 import distributions_pb2
from realco.transactions.v1 import transactions_pb2

from services.chassis.calls.answer import REPLAYED, answer_metadata, begin_answer
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.values.approval import VALIDITY
from services.chassis.values.approval_policy import ApprovalPolicy, ApprovalRule
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import DomainError
from tests.support.compliance import CHECK, ComplianceHarness
from tests.support.distributions import DistributionsHarness
from tests.support.transactions import TransactionsHarness

ANSWERED = "answered"
ALSO_MADE_IT = "admin-3"
OpenDatabase = Callable[[str], Awaitable[Any]]


class Waiting(Protocol):
    """A resource that waits for a second person, and its two ways to decide."""

    service: str
    servicer: Any
    inbox: Any
    org_id: str
    clock: FakeClock
    resource_id: str

    async def read(self) -> Any: ...

    async def let_gain(self, person: str) -> None:
        """The person begins to act for the party that gains."""
        ...

    async def ask_again(self, asker: Principal) -> None:
        """The person asks for something of this kind, which waits from then on."""
        ...

    async def end_sessions(self, person: str) -> None: ...

    def decide(self, word: str, etag: str, content_hash: str) -> tuple[str, Any]:
        """The RPC of its own route, and what is asked of it."""
        ...


class WaitingTransaction:
    """A payout that admin-1 asked for, to an account that another admin added."""

    service = "transactions"

    async def open(self, database: Any) -> None:
        self.harness = service = TransactionsHarness(database)
        self.servicer, self.inbox, self.org_id = service.transactions, service.inbox, "org-1"
        self.clock = service.clock
        adder = Principal(ALSO_MADE_IT, "admin", self.org_id)
        account = await service.confirm(await service.bank_account("sponsor-1", principal=adder))
        service.owe("sponsor-1")
        kind = transactions_pb2.Transaction.ESCROW_WITHDRAWAL
        payout = await service.payout_to(account.bank_account_id, "sponsor-1", type=kind)
        await service.work()
        self.resource_id = payout.transaction_id

    async def let_gain(self, person: str) -> None:
        self.harness.compliance.parties[person] = {"sponsor-1"}

    async def ask_again(self, asker: Principal) -> None:
        ordered = await self.harness.ask(asker, "CreateTransaction", await self.harness.deposit_request())
        self.resource_id = ordered.transaction_id

    async def end_sessions(self, person: str) -> None:
        self.harness.compliance.ended[person] = datetime.now(UTC)

    async def read(self) -> Any:
        return await self.servicer.GetTransaction(
            transactions_pb2.GetTransactionRequest(transaction_id=self.resource_id), None
        )

    def decide(self, word: str, etag: str, content_hash: str) -> tuple[str, Any]:
        known = {"transaction_id": self.resource_id, "etag": etag}
        if word == "approve":
            return "ApproveTransaction", transactions_pb2.ApproveTransactionRequest(**known)
        return "RejectTransaction", transactions_pb2.RejectTransactionRequest(**known, note="no")


class WaitingDistribution:
    """One that admin-1 drafted and submitted, and admin-3 calculated."""

    service = "distributions"

    async def open(self, database: Any) -> None:
        self.harness = service = DistributionsHarness(database)
        self.servicer, self.inbox, self.org_id = service.distributions, service.approvals, "org-1"
        self.clock = service.clock
        offering = await service.closed_offering(("inv-001", 100_000_00))
        drafted = await service.draft(offering, 10_000_00)
        submitted = await service.submit(await service.calculate(drafted, ALSO_MADE_IT))
        self.resource_id = submitted.distribution_id

    async def let_gain(self, person: str) -> None:
        self.harness.persons.parties[person] = frozenset({"inv-001"})

    async def ask_again(self, asker: Principal) -> None:
        with acting_as(Principal("admin-4", "admin", self.org_id)):
            assert await by_own_route(self, await find_approval(self), "reject") == ANSWERED
        with acting_as(asker):
            request = distributions_pb2.SubmitDistributionRequest(distribution_id=self.resource_id)
            await self.servicer.SubmitDistribution(request, None)

    async def end_sessions(self, person: str) -> None:
        self.harness.persons.ended[person] = datetime.now(UTC)

    async def read(self) -> Any:
        return await self.servicer.GetDistribution(
            distributions_pb2.GetDistributionRequest(distribution_id=self.resource_id), None
        )

    def decide(self, word: str, etag: str, content_hash: str) -> tuple[str, Any]:
        known = {"distribution_id": self.resource_id, "etag": etag}
        if word == "approve":
            asked = distributions_pb2.ApproveDistributionRequest(**known, content_hash=content_hash)
            return "ApproveDistribution", asked
        return "RejectDistribution", distributions_pb2.RejectDistributionRequest(**known, note="no")


class WaitingCheck:
    """A check of a party that admin-1 wrote, and admin-3 wrote again."""

    service = "compliance"

    async def open(self, database: Any) -> None:
        self.harness = service = ComplianceHarness(database)
        self.servicer, self.inbox, self.org_id = service.servicer, service.inbox, "org-a"
        self.clock = service.clock
        await service.create()
        await service.update(Principal(ALSO_MADE_IT, "admin", self.org_id), legal_name="Ada Parker")
        self.resource_id = (await service.waiting(service.party_id))[0].compliance_check_id

    async def let_gain(self, person: str) -> None:
        await self.harness.add(person)

    async def ask_again(self, asker: Principal) -> None:
        await self.harness.update(asker, legal_name="Ada Parks")
        self.resource_id = (await self.harness.waiting(self.harness.party_id))[0].compliance_check_id

    async def end_sessions(self, person: str) -> None:
        request = parties_pb2.EndSessionsRequest(idempotency_key="ended", person_id=person)
        with acting_as(Principal("admin-9", "admin", self.org_id)):
            await self.harness.parties.EndSessions(request, None)

    async def read(self) -> Any:
        request = compliance_pb2.GetComplianceCheckRequest(compliance_check_id=self.resource_id)
        return await self.servicer.GetComplianceCheck(request, None)

    def decide(self, word: str, etag: str, content_hash: str) -> tuple[str, Any]:
        request = compliance_pb2.ReviewComplianceCheckRequest(
            compliance_check_id=self.resource_id,
            etag=etag,
            decision=CHECK.PASSED if word == "approve" else CHECK.FAILED,
            note="Passport seen.",
        )
        return "ReviewComplianceCheck", request


async def by_own_route(waiting: Waiting, approval: Any, word: str, key: str = "") -> str:
    """How the current caller's decision ends."""
    rpc, request = waiting.decide(word, (await waiting.read()).etag, approval.content_hash)
    request.idempotency_key = key
    return await outcome_of(getattr(waiting.servicer, rpc)(request, None))


async def by_inbox(waiting: Waiting, approval: Any, word: str, key: str = "") -> str:
    known = {"approval_id": approval.approval_id, "etag": approval.etag, "note": "Seen.", "idempotency_key": key}
    if word == "reject":
        return await outcome_of(waiting.inbox.RejectApproval(approvals_pb2.RejectApprovalRequest(**known), None))
    request = approvals_pb2.ApproveApprovalRequest(**known, content_hash=approval.content_hash)
    return await outcome_of(waiting.inbox.ApproveApproval(request, None))


async def find_approval(waiting: Waiting) -> Any:
    request = approvals_pb2.ListApprovalsRequest(resource_id=[waiting.resource_id], status=["PENDING"])
    [found] = (await waiting.inbox.ListApprovals(request, None)).approvals
    return await waiting.inbox.GetApproval(approvals_pb2.GetApprovalRequest(approval_id=found.approval_id), None)


async def outcome_of(call: Awaitable[Any]) -> str:
    try:
        await call
    except DomainError as refusal:
        return refusal.reason
    return ANSWERED


def list_offered(resource: Any) -> set[str]:
    """A review is both decisions in one RPC."""
    offered = set(resource.allowed_actions)
    return {"approve", "reject"} if "review" in offered else offered & {"approve", "reject"}


@pytest.mark.parametrize("word", ["approve", "reject"])
@pytest.mark.parametrize("kind", [WaitingTransaction, WaitingDistribution, WaitingCheck], ids=lambda kind: kind.service)
async def test_who_had_a_part_in_it_says_neither_yes_nor_no_by_either_way_and_is_offered_neither(
    service_database: OpenDatabase, kind: type[Any], word: str
) -> None:
    waiting = kind()
    await waiting.open(await service_database(kind.service))
    for person in ("admin-1", ALSO_MADE_IT):
        with acting_as(Principal(person, "admin", waiting.org_id)):
            approval = await find_approval(waiting)
            assert list_offered(await waiting.read()) == list_offered(approval) == set(), person
            for way in (by_own_route, by_inbox):
                assert await way(waiting, approval, word) == "MAKER_IS_CHECKER", (person, way.__name__)
    with acting_as(Principal("admin-4", "admin", waiting.org_id)):
        approval = await find_approval(waiting)
        assert list_offered(await waiting.read()) == list_offered(approval) == {"approve", "reject"}
        assert await by_own_route(waiting, approval, word) == ANSWERED


@pytest.mark.parametrize("kind", [WaitingTransaction, WaitingDistribution, WaitingCheck], ids=lambda kind: kind.service)
async def test_what_was_refused_to_a_maker_stays_refused_under_its_key_whichever_way(
    service_database: OpenDatabase, kind: type[Any]
) -> None:
    waiting = kind()
    await waiting.open(await service_database(kind.service))
    with acting_as(Principal("admin-1", "admin", waiting.org_id)):
        approval = await find_approval(waiting)
        for way in (by_own_route, by_inbox):
            for word in ("approve", "reject"):
                for replayed in (False, True):
                    begin_answer()
                    ended = await way(waiting, approval, word, f"{way.__name__} {word}")
                    told = (REPLAYED, "true") in answer_metadata()
                    assert (ended, told) == ("MAKER_IS_CHECKER", replayed), (way.__name__, word)


@pytest.mark.parametrize("kind", [WaitingTransaction, WaitingDistribution, WaitingCheck], ids=lambda kind: kind.service)
async def test_where_the_rules_want_two_to_approve_it_waits_until_both_have_whichever_way_each_takes(
    service_database: OpenDatabase, kind: type[Any]
) -> None:
    waiting, database = kind(), await service_database(kind.service)
    await waiting.open(database)
    database.policy = ApprovalPolicy(all_organizations=(ApprovalRule(approvers_needed=2),))
    with acting_as(Principal("admin-4", "admin", waiting.org_id)):
        before = await waiting.read()
        assert await by_own_route(waiting, await find_approval(waiting), "approve") == ANSWERED
        approval, after = await find_approval(waiting), await waiting.read()
        assert (after.status, list_offered(approval)) == (before.status, {"reject"})
        assert kind is WaitingCheck or list_offered(after) == {"reject"}, "a review is a yes or a no"
        assert [each.approved_by for each in approval.approvers] == ["admin-4"]
        for way in (by_own_route, by_inbox):
            assert await way(waiting, approval, "approve") == "ALREADY_APPROVED", way.__name__
    with acting_as(Principal("admin-5", "admin", waiting.org_id)):
        assert await by_inbox(waiting, approval, "approve") == ANSWERED
        assert (await waiting.read()).status != before.status


@pytest.mark.parametrize("kind", [WaitingTransaction, WaitingDistribution, WaitingCheck], ids=lambda kind: kind.service)
async def test_whoever_approved_it_and_then_began_to_act_for_who_gains_is_not_counted_at_the_last_yes(
    service_database: OpenDatabase, kind: type[Any]
) -> None:
    waiting, database = kind(), await service_database(kind.service)
    await waiting.open(database)
    database.policy = ApprovalPolicy(all_organizations=(ApprovalRule(approvers_needed=2),))
    before = None
    for person, counted in (("admin-4", ["admin-4"]), ("admin-5", ["admin-5"]), ("admin-6", None)):
        with acting_as(Principal(person, "admin", waiting.org_id)):
            before = before or await waiting.read()
            assert await by_own_route(waiting, await find_approval(waiting), "approve") == ANSWERED, person
            if counted is not None:
                assert [each.approved_by for each in (await find_approval(waiting)).approvers] == counted
                assert (await waiting.read()).status == before.status
        if person == "admin-4":
            await waiting.let_gain(person)
    with acting_as(Principal("admin-6", "admin", waiting.org_id)):
        assert (await waiting.read()).status != before.status


@pytest.mark.parametrize("kind", [WaitingTransaction, WaitingDistribution, WaitingCheck], ids=lambda kind: kind.service)
async def test_what_was_asked_for_in_a_session_that_was_ended_is_approved_by_neither_way_and_can_be_rejected(
    service_database: OpenDatabase, kind: type[Any]
) -> None:
    waiting = kind()
    await waiting.open(await service_database(kind.service))
    asker = Principal("admin-2", "admin", waiting.org_id, signed_in_at=1)
    await waiting.ask_again(asker)
    await waiting.end_sessions(asker.person)
    with acting_as(Principal("admin-4", "admin", waiting.org_id)):
        approval, before = await find_approval(waiting), await waiting.read()
        assert list_offered(approval) == {"reject"}
        assert "MAKER_SESSION_ENDED" in {each.rule for each in approval.explanations}
        for way in (by_own_route, by_inbox):
            assert await way(waiting, approval, "approve") == "MAKER_SESSION_ENDED", way.__name__
        assert await waiting.read() == before
        assert await by_own_route(waiting, approval, "reject") == ANSWERED


@pytest.mark.parametrize("kind", [WaitingTransaction, WaitingDistribution], ids=lambda kind: kind.service)
async def test_what_nobody_decided_in_time_is_decided_by_neither_way_and_not_offered(
    service_database: OpenDatabase, kind: type[Any]
) -> None:
    waiting = kind()
    await waiting.open(await service_database(kind.service))
    with acting_as(Principal("admin-4", "admin", waiting.org_id)):
        approval = await find_approval(waiting)
        waiting.clock.advance(VALIDITY)  # and no job has written it down yet
        assert list_offered(await waiting.read()) == set()
        ends = [
            await way(waiting, approval, word) for way in (by_own_route, by_inbox) for word in ("approve", "reject")
        ]
    assert ends == ["APPROVAL_EXPIRED"] * 4
