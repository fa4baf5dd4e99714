"""A caller who goes away, or has no more time, leaves nothing half done: what the notary heard, the row says, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from realco.approvals.v1 import approvals_pb2
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.deadline import remaining_seconds, set_deadline
from services.chassis.data.database import Database
from services.chassis.data.operations import Operations
from services.chassis.data.transaction import Tx
from tests.support import chassis
from tests.support.distribution_ends import reject, reject_in_inbox, take_back
from tests.support.distributions import CLOSING, DistributionsHarness

Deed = Callable[[DistributionsHarness, dpb.Distribution], Awaitable[Any]]
_S = dpb.Distribution


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def submit(service: DistributionsHarness, distribution: dpb.Distribution) -> None:
    await service.submit(distribution)


async def approve(service: DistributionsHarness, distribution: dpb.Distribution) -> None:
    await service.approve(distribution)


async def approve_in_inbox(service: DistributionsHarness, distribution: dpb.Distribution) -> None:
    await service.grant(await service.find_approval(distribution.distribution_id))


async def execute(service: DistributionsHarness, distribution: dpb.Distribution) -> None:
    await service.execute(distribution)


# What is done, to a distribution in which status, what the notary hears of it, and what it has done.
DEEDS: list[tuple[Deed, int, str, int]] = [
    (submit, _S.DRAFT, "RecordRequest", _S.PENDING_APPROVAL),
    (approve, _S.PENDING_APPROVAL, "RecordApproval", _S.APPROVED),
    (approve_in_inbox, _S.PENDING_APPROVAL, "RecordApproval", _S.APPROVED),
    (reject, _S.PENDING_APPROVAL, "RecordWithdrawal", _S.DRAFT),
    (reject_in_inbox, _S.PENDING_APPROVAL, "RecordWithdrawal", _S.DRAFT),
    (take_back, _S.PENDING_APPROVAL, "RecordWithdrawal", _S.DRAFT),
    (reject, _S.APPROVED, "RecordWithdrawal", _S.DRAFT),
    (execute, _S.APPROVED, "RecordExecution", _S.QUEUED),
]


async def leave(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch, hears: str, deed: Awaitable[Any], *, is_late: bool
) -> None:
    """Whoever does the deed goes away while the notary hears of it."""
    hear, heard, may_answer = getattr(service.compliance, hears), asyncio.Event(), asyncio.Event()

    async def answer_slowly(request: Any, context: None) -> Any:
        if getattr(request, "validate_only", False):
            return await hear(request, context)
        heard.set()
        await may_answer.wait()
        return await hear(request, context)

    monkeypatch.setattr(service.compliance, hears, answer_slowly)

    async def call() -> None:
        if is_late:
            set_deadline(0.5)
        await deed

    calling = asyncio.create_task(call())
    await asyncio.wait_for(heard.wait(), 5)
    if is_late:
        await asyncio.sleep(0.5)
    calling.cancel()
    may_answer.set()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def make(service: DistributionsHarness, status: int) -> dpb.Distribution:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    service.deposit(offering, 15_000_00)
    distribution = await service.calculate(await service.draft(offering, 15_000_00))
    if status != _S.DRAFT:
        distribution = await service.submit(distribution)
    return await service.approve(distribution) if status == _S.APPROVED else distribution


@pytest.mark.parametrize("is_late", [False, True], ids=["goes away", "has no more time"])
@pytest.mark.parametrize(("deed", "before", "hears", "after"), DEEDS)
async def test_what_the_notary_heard_is_done_though_the_caller_leaves(
    service: DistributionsHarness,
    monkeypatch: pytest.MonkeyPatch,
    deed: Deed,
    before: int,
    hears: str,
    after: int,
    is_late: bool,
) -> None:
    distribution = await make(service, before)
    await leave(service, monkeypatch, hears, deed(service, distribution), is_late=is_late)

    async def is_done() -> bool:
        return (await service.get(distribution)).status == after

    await chassis.until(is_done, seconds=5)


async def ask_to_close(service: DistributionsHarness, offering: opb.Offering, account: str = "") -> Approval:
    request = opb.CloseOfferingRequest(offering_id=offering.offering_id, proceeds_bank_account_id=account)
    return await service.ask(service.offerings.CloseOffering, request, "admin-3")


async def ask_to_close_otherwise(service: DistributionsHarness, offering: opb.Offering) -> None:
    await ask_to_close(service, offering, service.transactions.add_bank_account("sponsor-1"))


async def say_yes(service: DistributionsHarness, offering: opb.Offering) -> None:
    await service.grant(await service.find_approval(offering.offering_id))


async def say_yes_to_what_fails(service: DistributionsHarness, offering: opb.Offering) -> None:
    service.escrow.balanced = False
    await say_yes(service, offering)


async def say_no(service: DistributionsHarness, offering: opb.Offering) -> None:
    await service.decline(await service.find_approval(offering.offering_id))


async def take_closing_back(service: DistributionsHarness, offering: opb.Offering) -> None:
    approval = await service.find_approval(offering.offering_id)
    request = approvals_pb2.CancelApprovalRequest(approval_id=approval.approval_id, etag=approval.etag)
    await service.call(service.approvals.CancelApproval, request, "admin-3")


@pytest.mark.parametrize("is_late", [False, True], ids=["goes away", "has no more time"])
@pytest.mark.parametrize(
    ("deed", "waits", "hears", "after"),
    [
        (ask_to_close, False, "RecordRequest", "PENDING"),
        (ask_to_close_otherwise, True, "RecordRequest", "CANCELLED"),
        (say_yes, True, "RecordApproval", "APPROVED"),  # a job closes it
        (say_yes_to_what_fails, True, "RecordWithdrawal", "FAILED"),
        (say_no, True, "RecordWithdrawal", "REJECTED"),
        (take_closing_back, True, "RecordWithdrawal", "CANCELLED"),
    ],
)
async def test_what_the_notary_heard_of_a_closing_is_written_though_the_caller_leaves(
    service: DistributionsHarness,
    monkeypatch: pytest.MonkeyPatch,
    deed: Callable[[DistributionsHarness, opb.Offering], Awaitable[Any]],
    waits: bool,
    hears: str,
    after: str,
    is_late: bool,
) -> None:
    offering = await service.offering(150_00)
    await service.invest(offering, "inv-001", 150_00)
    service.clock.set(CLOSING)
    if waits:
        await ask_to_close(service, offering)
    await leave(service, monkeypatch, hears, deed(service, offering), is_late=is_late)
    request = approvals_pb2.ListApprovalsRequest(resource_id=[offering.offering_id], kind=["CLOSE_OFFERING"])
    first = (await service.call(service.approvals.ListApprovals, request)).approvals[-1]
    assert Approval.Status.Name(first.status) == after


async def test_what_others_took_long_to_hear_is_written_in_time_of_its_own(service: DistributionsHarness) -> None:
    operations, left = Operations(service.database, service.clock), []

    async def ask(_: dpb.Distribution) -> None:
        set_deadline(0)

    async def write(_: Tx, request: dpb.Distribution, facts: None, now: datetime) -> dpb.Distribution:
        left.append(remaining_seconds())
        return request

    with service.as_("admin-1"):
        await operations.write_on_facts(dpb.Distribution(), dpb.Distribution, ask, write)
    assert left[0] > 1


async def test_what_the_notary_heard_is_done_though_another_request_of_the_caller_takes_its_key(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution = await make(service, _S.PENDING_APPROVAL)
    approval = await service.find_approval(distribution.distribution_id)
    hear = service.compliance.RecordWithdrawal

    async def comment_meanwhile(request: Any, context: None) -> Any:
        comment = approvals_pb2.CommentApprovalRequest(
            approval_id=approval.approval_id, text="Wait.", idempotency_key="the same"
        )
        await service.call(service.approvals.CommentApproval, comment, "admin-2")
        return await hear(request, context)

    monkeypatch.setattr(service.compliance, "RecordWithdrawal", comment_meanwhile)
    no = approvals_pb2.RejectApprovalRequest(
        approval_id=approval.approval_id, note="no", etag=approval.etag, idempotency_key="the same"
    )
    await service.call(service.approvals.RejectApproval, no, "admin-2")
    assert (await service.get(distribution)).status == _S.DRAFT
