"""Nobody alone: a distribution is decided by another person, who gains nothing from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1.notary_pb2 import RecordWithdrawalRequest
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.wire import to_timestamp
from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.values import approval_bounds, stops
from services.chassis.values.approval import VALIDITY
from services.chassis.values.approval_policy import ApprovalPolicy, ApprovalRule
from services.chassis.values.errors import DomainError, Unavailable
from tests.support import servers
from tests.support.approvals import effects_of
from tests.support.distribution_ends import reject, reject_in_inbox, take_back
from tests.support.distributions import ORG, DistributionsHarness, refusal_of
from tests.support.peers.transactions import fail_payout


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def submitted(service: DistributionsHarness) -> dpb.Distribution:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    return await service.submit(await service.calculate(await service.draft(offering, 15_000_00)))


async def test_a_submitted_distribution_stands_in_the_inbox_with_what_it_does(service: DistributionsHarness) -> None:
    service.database.policy = ApprovalPolicy(all_organizations=(ApprovalRule(valid_for_hours=48),))
    distribution = await submitted(service)
    offering = opb.Offering(offering_id=distribution.offering_id)
    service.deposit(await service.get(offering), 15_000_00)
    approval = await service.find_approval(distribution.distribution_id)
    assert (approval.kind, approval.content_hash) == ("APPROVE_DISTRIBUTION", distribution.content_hash)
    assert set(approval.beneficiary_party_ids) == {"inv-001", "inv-002"}
    assert approval.expire_time == distribution.expire_time == to_timestamp(service.clock.now() + timedelta(hours=48))
    assert effects_of(approval) == {"DISTRIBUTABLE": (15_000_00, 0), "PAYABLE": (0, 15_000_00)}
    [owed] = [each for each in approval.explanations if each.rule == "AMOUNTS_OWED"]
    assert [operand.value for operand in owed.operands] == ["10,000.00 USD", "5,000.00 USD"]
    statements = {each.rule: each.statement for each in approval.explanations}
    assert statements["DISTRIBUTABLE_CASH"] == "15,000.00 USD can be distributed, enough for 15,000.00 USD."
    assert (statements["ESCROW_ACTIVE"], statements["PAYEES_CLEARED"]) == (
        "The escrow account is ACTIVE.",
        "Every payee is cleared.",
    )


async def test_to_approve_it_in_the_inbox_is_to_approve_it(service: DistributionsHarness) -> None:
    distribution = await submitted(service)
    done = await service.grant(await service.find_approval(distribution.distribution_id))
    assert (done.status, done.decided_by) == (Approval.EXECUTED, "admin-2")
    approved = await service.get(distribution)
    assert (approved.status, approved.approved_by) == (dpb.Distribution.APPROVED, "admin-2")


async def test_to_approve_it_by_its_own_route_settles_the_inbox(service: DistributionsHarness) -> None:
    distribution = await submitted(service)
    await service.approve(distribution)
    approval = await service.find_approval(distribution.distribution_id)
    assert (approval.status, approval.decided_by) == (Approval.EXECUTED, "admin-2")


async def cancel(service: DistributionsHarness, distribution: dpb.Distribution, person: str = "admin-1") -> None:
    request = dpb.CancelDistributionRequest(distribution_id=distribution.distribution_id)
    await service.call(service.distributions.CancelDistribution, request, person)


async def let_expire(service: DistributionsHarness, distribution: dpb.Distribution) -> None:
    service.clock.set(service.clock.now() + VALIDITY)
    assert await refusal_of(service.approve(distribution)) == "APPROVAL_EXPIRED", "before any job has run"
    await service.work()


def taken_back(service: DistributionsHarness) -> list[str]:
    """What the notary was told counts no longer."""
    return [said.resource_id for said in service.compliance.said if isinstance(said, RecordWithdrawalRequest)]


@pytest.mark.parametrize("end", [reject_in_inbox, take_back])
async def test_a_no_that_was_heard_is_one_though_somebody_writes_beside_it_meanwhile(
    service: DistributionsHarness,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[DistributionsHarness, dpb.Distribution], Awaitable[None]],
) -> None:
    distribution = await submitted(service)
    approval = await service.find_approval(distribution.distribution_id)
    hear = service.compliance.RecordWithdrawal

    async def comment_meanwhile(request: RecordWithdrawalRequest, context: None) -> Any:
        comment = approvals_pb2.CommentApprovalRequest(approval_id=approval.approval_id, text="Wait.")
        await service.call(service.approvals.CommentApproval, comment, "admin-3")
        return await hear(request, context)

    monkeypatch.setattr(service.compliance, "RecordWithdrawal", comment_meanwhile)
    await end(service, distribution)
    assert (await service.get(distribution)).status == dpb.Distribution.DRAFT


@pytest.mark.parametrize("end", [reject, reject_in_inbox, take_back])
async def test_whoever_ends_what_is_just_being_done_hears_it_and_ends_nothing(
    service: DistributionsHarness, end: Callable[[DistributionsHarness, dpb.Distribution], Awaitable[None]]
) -> None:
    distribution = await submitted(service)
    service.compliance.is_just_decided = True
    assert await refusal_of(end(service, distribution)) == "JUST_DECIDED"
    assert (await service.get(distribution)).status == dpb.Distribution.PENDING_APPROVAL


@pytest.mark.parametrize(
    ("end", "status", "ended", "why", "reason"),
    [
        (reject, "DRAFT", "REJECTED", "no", "REJECTED"),
        (reject_in_inbox, "DRAFT", "REJECTED", "no", "REJECTED"),
        (take_back, "DRAFT", "CANCELLED", "", "WITHDRAWN"),
        (cancel, "CANCELLED", "CANCELLED", "", None),
        (let_expire, "DRAFT", "EXPIRED", "", "EXPIRED"),
    ],
)
async def test_however_it_ends_the_distribution_and_its_approval_end_together(
    service: DistributionsHarness,
    end: Callable[[DistributionsHarness, dpb.Distribution], Awaitable[None]],
    status: str,
    ended: str,
    why: str,
    reason: str | None,
) -> None:
    distribution = await submitted(service)
    await end(service, distribution)
    read = await service.get(distribution)
    assert (dpb.Distribution.Status.Name(read.status), read.HasField("expire_time")) == (status, False)
    approval = await service.find_approval(read.distribution_id)
    assert (Approval.Status.Name(approval.status), approval.note) == (ended, why)
    told = await service.told(events.DistributionSentBack)
    assert [events.DistributionSentBack.Reason.Name(each.reason) for each in told] == ([reason] if reason else [])
    assert taken_back(service) == ([] if end is let_expire else [read.distribution_id])
    if status == "DRAFT":  # and it may be asked for again
        again = await service.submit(await service.calculate(read))
        assert (await service.approve(again)).status == dpb.Distribution.APPROVED


async def test_nobody_has_a_distribution_wait_over_and_over_and_the_notary_hears_of_what_waits_alone(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval_bounds, "OPEN_MAX", 1)
    distribution = await submitted(service)
    await take_back(service, distribution)
    again = await service.calculate(await service.get(distribution))
    heard = len(service.compliance.said)
    assert await refusal_of(service.submit(again)) == "TOO_MANY_APPROVALS"
    assert len(service.compliance.said) == heard
    service.clock.set(service.clock.now() + approval_bounds.CANCELLED_COUNTS)
    assert (await service.submit(again)).status == dpb.Distribution.PENDING_APPROVAL


async def test_one_person_sends_back_what_was_approved_or_cancels_what_another_made_so_often(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stops, "STOPS_MAX", 1)
    distribution = await submitted(service)
    offering = opb.Offering(offering_id=distribution.offering_id)

    async def submit_again() -> dpb.Distribution:
        return await service.submit(await service.calculate(await service.get(distribution)))

    await reject(service, distribution)  # that waits: it is what a second person is asked
    await reject(service, await service.approve(await submit_again()))
    approved = await service.approve(await submit_again())
    assert await refusal_of(reject(service, approved)) == "TOO_MANY_STOPS"
    drafts = [await service.draft(offering, 10_000_00) for _ in range(2)]
    await cancel(service, approved, "admin-3")
    assert await refusal_of(cancel(service, drafts[0], "admin-3")) == "TOO_MANY_STOPS"
    for draft in drafts:  # of one's own
        await cancel(service, draft)


async def test_whoever_may_take_an_approval_back_takes_it_back_at_the_notary_and_nobody_else(
    service: DistributionsHarness,
) -> None:
    distribution = await service.approve(await submitted(service))
    request = dpb.RejectDistributionRequest(distribution_id=distribution.distribution_id, note="no", validate_only=True)
    await service.call(service.distributions.RejectDistribution, request, "admin-2")
    request.validate_only = False
    with pytest.raises(DomainError, match="had a part"):
        await service.call(service.distributions.RejectDistribution, request, "admin-1")
    assert taken_back(service) == []
    with service.wire.cut(service.compliance), pytest.raises(Unavailable):
        await cancel(service, distribution)
    assert (await service.get(distribution)).status == dpb.Distribution.APPROVED
    await cancel(service, distribution)
    assert taken_back(service) == [distribution.distribution_id]


async def test_who_calculated_or_submitted_it_once_never_approves_it(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    draft = await service.calculate(await service.draft(offering, 10_000_00), "early")
    await reject(service, await service.submit(draft, "submitter"))
    again = await service.submit(await service.calculate(draft, "late"), "admin-1")
    for person in ("early", "submitter", "late"):
        assert await refusal_of(service.approve(again, person)) == "MAKER_IS_CHECKER"
        approval = await service.find_approval(again.distribution_id)
        assert await refusal_of(service.grant(approval, person)) == "MAKER_IS_CHECKER"
        assert "approve" not in (await service.call(*_reading(service, again), person)).allowed_actions


def _reading(service: DistributionsHarness, distribution: dpb.Distribution) -> tuple[Any, dpb.GetDistributionRequest]:
    request = dpb.GetDistributionRequest(distribution_id=distribution.distribution_id)
    return service.distributions.GetDistribution, request


async def test_whoever_acts_for_a_payee_approves_it_by_no_route(service: DistributionsHarness) -> None:
    distribution = await submitted(service)
    service.persons.parties["admin-2"] = frozenset({"inv-002"})
    assert await refusal_of(service.approve(distribution)) == "BENEFICIARY_IS_CHECKER"
    approval = await service.find_approval(distribution.distribution_id)
    assert await refusal_of(service.grant(approval)) == "BENEFICIARY_IS_CHECKER"
    assert (await service.get(distribution)).status == dpb.Distribution.PENDING_APPROVAL


@pytest.mark.parametrize("days", [7, 200])
async def test_an_approval_that_is_old_pays_nothing(service: DistributionsHarness, days: int) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    approved = await service.approved(offering, 10_000_00)
    service.clock.set(service.clock.now() + timedelta(days=days))
    assert await refusal_of(service.execute(approved)) == "APPROVAL_EXPIRED"
    read = await service.get(approved)
    assert "execute" not in read.allowed_actions
    await reject(service, read)
    fresh = await service.approve(await service.submit(await service.calculate(read)))
    assert (await service.execute(fresh)).status == dpb.Distribution.QUEUED


async def test_what_was_altered_after_its_approval_is_not_paid(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    approved = await service.approved(offering, 10_000_00)
    async with service.database.begin(ORG) as tx:  # so that it would pay profit, and not capital
        await tx.execute(sa.text("UPDATE investments SET unreturned_minor = 0, version = version + 1"))
    with pytest.raises(NotSealed):
        await service.execute(approved)


async def test_a_calculation_that_is_stale_is_not_submitted(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    stale = await service.calculate(await service.draft(offering, 10_000_00))
    await service.executed(offering, 20_000_00)
    assert await refusal_of(service.submit(stale)) == "CONTENT_OUTDATED"


async def test_another_attempt_waits_and_says_what_account_it_goes_to(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    distribution = await service.executed(offering, 10_000_00)
    await service.deliver(fail_payout(service.transactions.newest("inv-001"), "R03"))
    owed = (await service.allocations(distribution))["inv-001"]
    account = service.transactions.add_bank_account("inv-001")
    service.transactions.bank_accounts[account].created_by = "admin-5"
    service.clock.set(service.clock.now() + timedelta(days=3))
    request = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id, allocation_id=owed.allocation_id, bank_account_id=account
    )
    approval = await service.ask(service.distributions.ResendAllocation, request)
    statements = {each.rule: each.statement for each in approval.explanations}
    assert statements == {
        "LAST_ATTEMPT": "Attempt 1 ended FAILED: DECLINED_BY_PROVIDER, R03 it is",
        "BANK_ACCOUNT": "It goes to the account of “Ann Lee” that ends in 6789, which is ACTIVE"
        " and was added 368 days ago by admin-5.",
        "ESCROW_ACTIVE": "The escrow account is ACTIVE.",
        "AVAILABLE_BALANCE": "payable of inv-001 has 10,000.00 USD available,"
        " and 10,000.00 USD would be taken from it.",
        "CASH_COVERS": "There is 110,000.00 USD of cash that nobody holds and no payout takes,"
        " enough to pay 10,000.00 USD.",
        "PAYEES_CLEARED": "Every payee is cleared.",
    }
    assert (list(approval.beneficiary_party_ids), approval.resource_id) == (["inv-001"], owed.allocation_id)
    assert (await service.allocations(distribution))["inv-001"].attempts == 1, "nothing has happened"
    assert "admin-5" in approval.makers, "who added the account says no yes to what is paid there"
    done = await service.grant(approval)
    await service.work()
    assert done.result_id == owed.allocation_id
    assert service.transactions.newest("inv-001").bank_account_id == account


async def test_a_yes_to_an_attempt_that_was_made_meanwhile_is_none_to_the_next(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    distribution = await service.executed(offering, 10_000_00)
    await service.deliver(fail_payout(service.transactions.newest("inv-001"), "R03"))
    where = {
        "distribution_id": distribution.distribution_id,
        "allocation_id": (await service.allocations(distribution))["inv-001"].allocation_id,
    }
    resend = service.distributions.ResendAllocation
    waits = await service.ask(resend, dpb.ResendAllocationRequest(**where))
    assert [(each.field, each.before, each.after) for each in waits.changes] == [("attempt", "1", "2")]
    await service.call(resend, dpb.ResendAllocationRequest(**where))
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("inv-001"), "R03"))
    assert await refusal_of(service.grant(waits)) == "CONTENT_OUTDATED"
    assert (await service.allocations(distribution))["inv-001"].attempts == 2


async def test_what_was_approved_in_the_database_alone_is_not_executed(
    service: DistributionsHarness, postgres: servers.TestPostgres
) -> None:
    distribution = await submitted(service)
    approved = "approved_by = 'admin-2', approved_hash = content_hash, status = 'APPROVED', version = version + 1"
    await servers.tamper(postgres.admin_dsn, service.database, f"UPDATE distributions SET {approved}")
    with pytest.raises(NotSealed):
        await service.execute(await service.get(distribution))
