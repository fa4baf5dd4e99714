"""What is asked of others before an approved distribution is queued. While one of them is away, nothing changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realco.compliance.v1 import notary_pb2
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import payout_orders_pb2
from realco.escrow.v1.journal_pb2 import JournalEntry as Entry

from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError, Unavailable
from services.chassis.values.refusals import IdempotencyKeyReused
from tests.support.distributions import DistributionsHarness
from tests.support.peers.wire import Killed


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def test_an_execution_that_cannot_ask_escrow_writes_nothing(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    approved = await service.approved(offering, 10_000_00)
    request = dpb.ExecuteDistributionRequest(idempotency_key="k-1", distribution_id=approved.distribution_id)
    service.wire.fail("GetEscrowAccountBalance", "lost")
    with pytest.raises(DomainError) as refusal:
        await service.call(service.distributions.ExecuteDistribution, request)
    assert refusal.value.reason == "UNAVAILABLE"
    assert (await service.get(approved)).status == dpb.Distribution.APPROVED
    answer = await service.call(service.distributions.ExecuteDistribution, request)
    assert answer.status == dpb.Distribution.QUEUED, "the key is still free"


async def test_cash_that_a_bank_took_is_not_distributed_and_who_approves_is_told(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    # The bank took back what was paid on already.
    account, owes = offering.escrow_account_id, "returns_receivable:inv-001"
    service.escrow.post(account, Entry.ADJUSTMENT, owes, "cash", 100_000_01)
    waiting = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)))
    approval = await service.find_approval(waiting.distribution_id)
    explanations = {each.rule: each.statement for each in approval.explanations}
    assert explanations["DISTRIBUTABLE_CASH"] == (
        "10,000.00 USD is distributable, and the escrow account has 9,999.99 USD available:"
        " too little for 10,000.00 USD."
    )
    assert explanations["PARTY_OWES"].startswith("inv-001 owes 100,000.01 USD")
    approved = await service.approve(waiting)
    with pytest.raises(DomainError) as refusal:
        await service.execute(approved)
    assert (refusal.value.reason, refusal.value.metadata["available_minor"]) == (
        "INSUFFICIENT_DISTRIBUTABLE_CASH",
        "999999",
    )


async def test_the_notary_hears_who_executes_it_before_it_is_queued_and_of_nothing_that_is_refused(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    approved = await service.approved(offering, 10_000_00)
    execute, given = service.distributions.ExecuteDistribution, {"distribution_id": approved.distribution_id}

    def heard() -> list[notary_pb2.RecordExecutionRequest]:
        return [each for each in service.compliance.said if isinstance(each, notary_pb2.RecordExecutionRequest)]

    for _ in range(2):
        request = dpb.ExecuteDistributionRequest(idempotency_key="poor", **given)
        with pytest.raises(DomainError) as refusal:
            await service.call(execute, request, "admin-3")
        assert refusal.value.reason == "INSUFFICIENT_DISTRIBUTABLE_CASH"
    service.deposit(offering, 10_000_00)
    await service.call(execute, dpb.ExecuteDistributionRequest(validate_only=True, **given), "admin-3")
    assert heard() == []
    request = dpb.ExecuteDistributionRequest(idempotency_key="rich", **given)
    for how, failure in (
        ("lost", Unavailable),
        ("unanswered", Unavailable),
        ("killed", Killed),
        ("killed_after", Killed),
    ):
        service.wire.fail("RecordExecution", how)
        with pytest.raises(failure):
            await service.call(execute, request, "admin-3")
        assert (await service.get(approved)).etag == approved.etag, "nothing is changed"
    assert (await service.call(execute, request, "admin-3")).status == dpb.Distribution.QUEUED
    said, *again = heard()
    assert again == [said] * 2, "what had an effect was said, and so it was when all went well"
    moved = said.movement
    assert (moved.kind, moved.content_hash) == (notary_pb2.Movement.APPROVE_DISTRIBUTION, approved.content_hash)
    assert service.wire.persons["RecordExecution"] == "admin-3"
    await service.call(execute, request, "admin-3")
    assert len(heard()) == 3, "what was answered is answered again"
    await service.work()
    [declared] = service.wire.requests("DeclareDistribution")
    lines = [(line.party_id, line.amount) for line in moved.lines]
    assert lines == [(part.party_id, part.amount) for part in declared.payables]
    assert moved.escrow_account_id == declared.escrow_account_id


async def test_what_was_approved_by_somebody_who_counts_no_longer_is_approved_anew_and_then_executed(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    approved = await service.approved(offering, 10_000_00)
    execute = dpb.ExecuteDistributionRequest(idempotency_key="early", distribution_id=approved.distribution_id)
    for service.compliance.not_counted in ("admin-2", None):
        with pytest.raises(DomainError) as refusal:
            await service.call(service.distributions.ExecuteDistribution, execute)
        assert (refusal.value.reason, refusal.value.metadata) == ("MOVEMENT_NOT_DECIDED", {"person_ids": '["admin-2"]'})
    assert (await service.get(approved)).etag == approved.etag
    request = dpb.RejectDistributionRequest(distribution_id=approved.distribution_id, note="anew", etag=approved.etag)
    sent_back = await service.call(service.distributions.RejectDistribution, request, "admin-2")
    again = await service.approve(await service.submit(await service.calculate(sent_back)))
    assert (await service.execute(again)).status == dpb.Distribution.QUEUED


async def is_ordered(service: DistributionsHarness, movement: notary_pb2.Movement) -> str:
    """Who ordered it, or the reason why escrow is not to book it."""
    request = payout_orders_pb2.CheckMovementOrderRequest(movement=movement)
    try:
        return str((await service.call(service.payout_orders.CheckMovementOrder, request)).ordered_by)
    except DomainError as refusal:
        return refusal.reason


def without_order(movement: notary_pb2.Movement) -> list[notary_pb2.Movement]:
    """The same in another order, and what is not the same: another amount, another hash, another account."""
    changed = [notary_pb2.Movement() for _ in range(4)]
    for each in changed:
        each.CopyFrom(movement)
    lines = list(movement.lines)
    del changed[0].lines[:]
    changed[0].lines.extend(lines[::-1])
    changed[1].lines[0].amount.amount_minor += 1
    changed[2].content_hash = "f" * 64
    changed[3].escrow_account_id = "esc_" + "0" * 26
    return changed


async def test_escrow_is_told_that_a_declaration_is_ordered_from_its_execution_until_it_is_booked(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00), ("inv-002", 50_000_00))
    service.deposit(offering, 15_000_00)
    approved = await service.approved(offering, 15_000_00)
    request = dpb.ExecuteDistributionRequest(idempotency_key="k-1", distribution_id=approved.distribution_id)
    service.wire.fail("RecordExecution", "killed_after")
    with pytest.raises(Killed):
        await service.call(service.distributions.ExecuteDistribution, request, "admin-3")
    [said] = [each for each in service.compliance.said if isinstance(each, notary_pb2.RecordExecutionRequest)]
    assert await is_ordered(service, said.movement) == "MOVEMENT_NOT_ORDERED", "heard by the notary is not yet ordered"
    await service.call(service.distributions.ExecuteDistribution, request, "admin-3")
    assert await is_ordered(service, said.movement) == "admin-3"
    reordered, *others = without_order(said.movement)
    assert await is_ordered(service, reordered) == "admin-3"
    assert {await is_ordered(service, other) for other in others} == {"MOVEMENT_NOT_ORDERED"}
    await service.work()
    assert await is_ordered(service, said.movement) == "MOVEMENT_NOT_ORDERED", "it is booked"


async def test_that_our_key_is_in_use_in_escrow_fails_no_distribution_for_the_money_may_be_owed(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    approved = await service.approved(offering, 10_000_00)
    await service.execute(approved)

    async def refuse(*_: object) -> None:
        raise IdempotencyKeyReused("It is another request's.")

    with monkeypatch.context() as patch:
        patch.setattr(service.escrow, "DeclareDistribution", refuse)
        await service.work()
    assert (await service.get(approved)).status == dpb.Distribution.QUEUED
    await service.make_due()
    await service.work()
    assert (await service.get(approved)).status == dpb.Distribution.PROCESSING
