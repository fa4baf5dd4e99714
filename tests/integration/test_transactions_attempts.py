"""What held when money was ordered is asked again when it is to move: whether its escrow account takes it by now."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest
import sqlalchemy as sa
from realco.distributions.v1.offerings_pb2 import Investment, Offering
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.transactions.v1 import transactions_pb2 as pb
from realco.transactions.v1.exceptions_pb2 import PaymentException
from realco.transactions.v1.unfinished_pb2 import ListUnfinishedTransactionsRequest

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from services.transactions.jobs.start_queued import start_queued
from services.transactions.jobs.submit_payments import ASKED_LATELY, LOST_AFTER
from tests.support.arrivals import announce, confirm
from tests.support.exceptions import list_exceptions
from tests.support.memory_bank import unknown
from tests.support.peers.wire import Killed
from tests.support.transactions import ADMIN, ESCROW_ACCOUNT, MONDAY, ORG, TransactionsHarness

T = pb.Transaction
ESCROW = Principal("service:escrow", "service", ORG)


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


def become(service: TransactionsHarness, status: EscrowAccount.Status) -> None:
    service.escrow.accounts[ESCROW_ACCOUNT].status = status


async def returned_once(service: TransactionsHarness) -> T:
    """A debit that waits to be presented again; the clock stands where it is."""
    made = await service.deposit()
    await service.work()
    service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R01", at=service.clock.now())
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.PENDING_RETRY
    return made


async def list_told(service: TransactionsHarness) -> set[str]:
    return {PaymentException.Kind.Name(each.kind) for each in await list_exceptions(service)}


async def approve(service: TransactionsHarness, made: T) -> None:
    await service.grant(await service.waiting(made.transaction_id))


async def test_a_debit_is_not_presented_again_for_an_escrow_account_that_was_closed(
    service: TransactionsHarness,
) -> None:
    made = await returned_once(service)
    become(service, EscrowAccount.CLOSED)
    orders = len(service.bank.orders)
    service.clock.set(MONDAY + timedelta(days=30))
    await service.work(hurried=True)
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.failure.code) == (T.FAILED, "ESCROW_ACCOUNT_CLOSED")
    assert len(service.bank.orders) == orders


async def test_what_somebody_approves_for_an_escrow_account_that_was_closed_fails_and_says_why(
    service: TransactionsHarness,
) -> None:
    made = await service.ask(ADMIN, "CreateTransaction", await service.deposit_request())
    assert made.status == T.PENDING_APPROVAL
    become(service, EscrowAccount.CLOSED)
    await approve(service, made)
    await service.work()
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.failure.code, service.bank.orders) == (T.FAILED, "ESCROW_ACCOUNT_CLOSED", [])


@pytest.mark.parametrize("kind", ["debit", "payout"])
async def test_what_is_to_move_in_a_frozen_escrow_account_waits_until_it_is_unfrozen(
    service: TransactionsHarness, kind: str
) -> None:
    made = await (service.deposit() if kind == "debit" else service.payout())
    become(service, EscrowAccount.FROZEN)
    await service.work()
    assert ((await service.get(made.transaction_id)).status, service.bank.orders) == (T.QUEUED, [])
    become(service, EscrowAccount.ACTIVE)
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


@pytest.mark.parametrize("ends", ["deadline", "refund"])
async def test_a_debit_is_not_presented_again_once_its_raise_takes_no_money(
    service: TransactionsHarness, ends: str
) -> None:
    """What was committed in time may be paid until the deadline, and not after it."""
    made = await returned_once(service)
    offering = service.distributions.offering
    if ends == "deadline":
        offering.deadline_time.FromDatetime(MONDAY + timedelta(days=1))
    else:
        offering.status = Offering.REFUNDING
    service.clock.set(MONDAY + timedelta(days=30))
    await service.work(hurried=True)
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.failure.code) == (T.FAILED, "OFFERING_NOT_OPEN")
    assert len(service.bank.orders) == 1


async def test_a_wire_for_a_closed_escrow_account_is_not_confirmed_and_one_for_a_frozen_is(
    service: TransactionsHarness,
) -> None:
    made = await announce(service)
    become(service, EscrowAccount.CLOSED)
    with pytest.raises(DomainError) as refusal:
        await confirm(service, made)
    assert refusal.value.reason == "ESCROW_ACCOUNT_CLOSED"
    become(service, EscrowAccount.FROZEN)
    assert (await confirm(service, made)).status == T.COMPLETED


@pytest.mark.parametrize("again", ["FT-1", "ft 1", "FT\u20101", "\uff26\uff34\uff11"])
async def test_a_bank_s_reference_confirms_one_wire_of_an_escrow_account_however_it_is_written(
    service: TransactionsHarness, again: str
) -> None:
    first, second = await announce(service), await announce(service)
    await confirm(service, first, "FT-1")
    with pytest.raises(DomainError) as refusal:
        await confirm(service, second, again)
    assert (refusal.value.reason, refusal.value.metadata) == (
        "BANK_REFERENCE_USED",
        {"transaction_id": first.transaction_id},
    )
    assert list(refusal.value.fields) == ["bank_reference"]
    assert (await service.get(second.transaction_id)).status == T.PENDING_SETTLEMENT
    assert (await confirm(service, second, "FT-2")).status == T.COMPLETED


async def test_escrow_is_told_of_what_may_still_come_in_go_out_or_come_back(service: TransactionsHarness) -> None:
    async def list_unfinished() -> list[str]:
        request = ListUnfinishedTransactionsRequest(escrow_account_id=ESCROW_ACCOUNT)
        return list((await service.ask(ESCROW, "ListUnfinishedTransactions", request)).transaction_ids)

    async def unfinished() -> set[str]:
        return set(await list_unfinished())

    waits = await service.ask(ADMIN, "CreateTransaction", await service.deposit_request())
    again, wire, payout = await returned_once(service), await announce(service), await service.payout("inv-002")
    await service.work()
    all_of_them = {each.transaction_id for each in (waits, again, wire, payout)}
    assert await unfinished() == all_of_them
    assert (await list_unfinished())[0] == payout.transaction_id, "what leaves soonest is told first"

    # Paid: its bank may still send it back.
    service.bank.report(payout.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    assert (await service.get(payout.transaction_id)).status == T.COMPLETED
    assert await unfinished() == all_of_them
    assert (await list_unfinished())[-1] == payout.transaction_id, "it has left"

    # What nobody can take back, what failed and what was cancelled is the end.
    await confirm(service, wire)
    cancel = pb.CancelTransactionRequest(transaction_id=waits.transaction_id)
    await service.ask(ADMIN, "CancelTransaction", cancel)
    assert await unfinished() == {again.transaction_id, payout.transaction_id}
    become(service, EscrowAccount.CLOSED)
    service.clock.set(MONDAY + timedelta(days=30))
    await service.work(hurried=True)
    assert (await service.get(payout.transaction_id)).finality == T.FINAL
    assert await unfinished() == set()


def withdraw(service: TransactionsHarness, made: T) -> None:
    service.distributions.investments[made.investment_id].status = Investment.CANCELLING


def end_raise(service: TransactionsHarness, made: T) -> None:
    service.distributions.offering.deadline_time.FromDatetime(MONDAY)


def close_account(service: TransactionsHarness, made: T) -> None:
    become(service, EscrowAccount.CLOSED)


def take_clearance(service: TransactionsHarness, made: T) -> None:
    service.compliance.uncleared[made.party_id] = "IDENTITY"


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (withdraw, "INVESTMENT_NOT_PENDING"),
        (end_raise, "OFFERING_NOT_OPEN"),
        (close_account, "ESCROW_ACCOUNT_CLOSED"),
        (take_clearance, "PARTY_NOT_CLEARED"),
    ],
)
@pytest.mark.parametrize("is_tried", [False, True], ids=["no worker came to it", "the provider was away"])
async def test_a_debit_whose_reason_ended_after_its_attempt_began_is_not_ordered_later(
    service: TransactionsHarness, end, code, *, is_tried: bool
) -> None:
    made = await service.deposit()
    if is_tried:
        service.bank.before_effect = [unknown()]
        await service.work()
    else:
        await service.run(start_queued)
    assert (await service.get(made.transaction_id)).status == T.PROCESSING
    orders = len(service.bank.orders)
    end(service, made)
    service.clock.advance(ASKED_LATELY + timedelta(seconds=1))
    await service.work(hurried=True)
    if is_tried:  # the provider may have it all the same
        assert (await service.get(made.transaction_id)).status == T.PROCESSING
        service.clock.advance(LOST_AFTER)
        await service.work(hurried=True)
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.failure.code, seen.presentments) == (T.FAILED, code, 0)
    assert len(service.bank.orders) == orders


async def test_a_debit_whose_reason_ended_is_followed_where_the_provider_has_it(service: TransactionsHarness) -> None:
    made = await service.deposit()
    service.bank.after_effect = [Killed()]
    with pytest.raises(Killed):
        await service.work()
    withdraw(service, made)
    service.clock.advance(LOST_AFTER * 2)
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_a_late_order_waits_while_nobody_says_whether_it_is_wanted(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.run(start_queued)
    service.clock.advance(ASKED_LATELY + timedelta(seconds=1))
    service.wire.fail("ListInvestments", "lost")
    await service.work()
    assert ((await service.get(made.transaction_id)).status, service.bank.orders) == (T.PROCESSING, [])
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_a_late_order_is_not_sent_unasked_because_sql_says_that_its_attempt_has_just_begun(
    service: TransactionsHarness,
) -> None:
    made = await service.deposit()
    await service.run(start_queued)
    withdraw(service, made)
    service.clock.advance(ASKED_LATELY + timedelta(seconds=1))
    async with service.database.begin(ORG) as tx:
        begun = sa.text("UPDATE transactions SET updated_at = :now, version = version + 1")
        await tx.execute(begun, {"now": service.clock.now()})
    await service.work(hurried=True)
    assert service.bank.orders == []


async def test_nobody_retries_by_hand_for_a_party_that_is_not_cleared(service: TransactionsHarness) -> None:
    made = await returned_once(service)
    take_clearance(service, made)
    request = pb.RetryTransactionRequest(
        idempotency_key=new_id("key"),
        transaction_id=made.transaction_id,
        etag=(await service.get(made.transaction_id)).etag,
    )
    with pytest.raises(DomainError) as refusal:
        await service.ask(ADMIN, "RetryTransaction", request)
    assert refusal.value.reason == "PARTY_NOT_CLEARED"
    assert (await service.get(made.transaction_id)).status == T.PENDING_RETRY


async def test_what_waits_for_another_attempt_takes_its_own_part_of_the_commitment_and_no_more(
    service: TransactionsHarness,
) -> None:
    made = await returned_once(service)
    investment = service.distributions.investments[made.investment_id]
    request = pb.RetryTransactionRequest(idempotency_key=new_id("key"), transaction_id=made.transaction_id)
    request.etag = (await service.get(made.transaction_id)).etag

    investment.amount.amount_minor = made.amount.amount_minor - 1
    with pytest.raises(DomainError) as refusal:
        await service.ask(ADMIN, "RetryTransaction", request)
    assert refusal.value.reason == "COMMITMENT_EXCEEDED"
    investment.amount.amount_minor = made.amount.amount_minor
    request.idempotency_key = new_id("key")
    assert (await service.ask(ADMIN, "RetryTransaction", request)).status == T.QUEUED


async def test_what_staff_has_drawn_for_no_investment_is_drawn_once_it_is_approved(
    service: TransactionsHarness,
) -> None:
    request = await service.deposit_request("sponsor-1", type=pb.Transaction.DEPOSIT, investment_id=None)
    made = await service.ask(ADMIN, "CreateTransaction", request)
    await service.work()
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    assert (await service.get(made.transaction_id)).status == pb.Transaction.PENDING_SETTLEMENT


async def test_an_order_that_was_never_sent_costs_no_look_up(service: TransactionsHarness) -> None:
    await service.payout()
    await service.work()
    assert (len(service.bank.orders), service.bank.look_ups) == (1, 0)


@pytest.mark.parametrize("status", [PaymentStatus.SETTLED, PaymentStatus.PENDING])
async def test_what_goes_on_at_the_provider_though_it_came_back_is_not_drawn_a_second_time(service, status):
    made = await returned_once(service)
    [first] = service.bank.payments
    service.bank.report(made.transaction_id, status)
    seen = await service.get(made.transaction_id)
    service.clock.set(seen.next_attempt_time.ToDatetime(tzinfo=UTC))
    await service.work(hurried=True)
    assert list(service.bank.payments) == [first]
    assert (await service.get(made.transaction_id)).status == T.PROCESSING
    assert await list_told(service) == {"PAYMENT_NOT_OURS"}
    service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R01")
    await service.hurry()
    await service.work()
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT
    assert len(service.bank.payments) == 2


async def test_that_a_debit_is_there_again_after_it_came_back_is_told(service):
    made = await returned_once(service)
    service.clock.advance(timedelta(minutes=2))
    await service.hook("evt_again", service.bank.report(made.transaction_id, PaymentStatus.SETTLED))
    await service.work()
    assert "PAYMENT_NOT_OURS" in await list_told(service)
    assert (await service.get(made.transaction_id)).status == T.PENDING_RETRY
